"""Generated requests mean what their labels say, and held-out ones share nothing with training."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import chain

import msgspec
import pytest
from home_assistant_intents import get_intents

from edge_agent.home import HomeTask
from edge_agent.home.actions import ActionReader, Refusal
from edge_agent.home.home import check_home
from edge_agent.home.prompt import answer_text
from edge_agent.home.vocabulary import INTENT_SLOTS
from edge_agent.home.words import normalise
from ops.home.names import HELD_OUT, TRAIN, Names, invented_name
from ops.home.sample import Sample, is_answerable, is_exact, load_exam, save_exam
from ops.home.samples import WEIGHTS, SampleMaker
from ops.home.templates import Grammar, bare_wording


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    return Grammar()


@pytest.fixture(scope="module")
def train(grammar: Grammar) -> list[Sample]:
    maker = SampleMaker(grammar, seed=5)
    return [maker.draw() for _ in range(1_500)]


@pytest.fixture(scope="module")
def held_out(grammar: Grammar) -> list[Sample]:
    maker = SampleMaker(grammar, seed=5, held_out=True)
    return [maker.draw() for _ in range(1_500)]


def test_every_slot_of_the_package_is_one_we_know(grammar: Grammar) -> None:
    intents = (get_intents("en") or {})["intents"]
    assert set(intents) - set(INTENT_SLOTS) == {"HassRespond"}
    for block in grammar.blocks:
        assert set(block.slots) <= set(INTENT_SLOTS[block.intent])


def test_every_template_can_be_read_and_names_lists_that_there_are(grammar: Grammar) -> None:
    """Templates are parsed when they are drawn, so that a slip in one would wait for its turn."""
    ours = {"name", "area", "floor", "kind", "other_name", "other_area"}
    for block in grammar.blocks:
        for template in (*block.train, *block.held_out):
            unknown = template.lists - ours
            assert not block.ours or all(grammar.knows(name) for name in unknown), template.text
    for side in (False, True):
        assert all(not template.lists for template in grammar.chatter_templates(side))


def test_every_kind_of_request_can_be_drawn_from_both_sides(grammar: Grammar) -> None:
    for held_out in (False, True):
        maker = SampleMaker(grammar, seed=1, held_out=held_out)
        for category in WEIGHTS:
            assert maker.draw(category).category == category


def test_a_seed_always_gives_the_same_samples(grammar: Grammar) -> None:
    first, second = (SampleMaker(grammar, seed=9) for _ in range(2))
    assert [first.draw() for _ in range(60)] == [second.draw() for _ in range(60)]


def all_names(names: Names) -> set[str]:
    """All that a side's lists hold, of whatever kind."""
    lists = [value for value in msgspec.structs.asdict(names).values() if isinstance(value, tuple)]
    return set(map(normalise, chain.from_iterable((*lists, *names.things.values()))))


def test_nothing_is_called_in_an_exam_what_anything_is_called_in_training() -> None:
    """A room of the exam is no thing of training either, nor a light what was a switch."""
    assert not all_names(TRAIN) & all_names(HELD_OUT)


def test_names_that_are_invented_for_exams_are_made_of_words_that_training_has_not() -> None:
    rng = random.Random(3)
    lists = (TRAIN.areas, TRAIN.items, TRAIN.queries, *TRAIN.things.values())
    known = {word.lower() for name in chain.from_iterable(lists) for word in name.split()}
    pairs = [name.split() for name in (invented_name(rng, HELD_OUT) for _ in range(600))]
    met = sum(word in known for words in pairs for word in words)
    # A word of new syllables may come out as a real one.
    assert met < 0.01 * sum(map(len, pairs))


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("start [<the>] {name}", "start {name}"),
        ("please start the {name} [for me [now]]", "start {name}"),
        ("(the|my) lights [on] {area}", "lights {area}"),
        ("theatre a (on|off)", "theatre (on|off)"),
    ],
)
def test_a_bare_wording_lacks_what_carries_no_meaning(text: str, bare: str) -> None:
    assert bare_wording(text) == bare


def test_phrasings_of_training_are_not_examined(grammar: Grammar) -> None:
    """Of no block: not even with another article, a "please", or an optional part less."""
    known = {bare_wording(item.text) for block in grammar.blocks for item in block.train}
    known |= {bare_wording(item.text) for item in grammar.chatter_templates(held_out=False)}
    examined = [item.text for block in grammar.blocks for item in block.held_out]
    examined += [item.text for item in grammar.chatter_templates(held_out=True)]
    assert len(examined) > 9_000
    assert not [text for text in examined if bare_wording(text) in known]


def test_a_home_may_be_asked_once(grammar: Grammar) -> None:
    maker = SampleMaker(grammar, seed=2, held_out=True, per_home=1)
    samples = [maker.draw() for _ in range(40)]
    assert len({id(sample.home) for sample in samples}) == len(samples)


def test_training_never_asks_a_demo_request_word_for_word(train: list[Sample]) -> None:
    assert "turn on the kitchen lights" not in {normalise(sample.request) for sample in train}


def test_homes_are_valid(train: list[Sample], held_out: list[Sample]) -> None:
    for sample in (*train[::40], *held_out[::40]):
        check_home(sample.home)


def test_the_home_can_do_what_labels_ask(train: list[Sample]) -> None:
    """Labels are valid actions; only "the lights of a room that has none" may be refused, by the home."""
    refused: Counter[str] = Counter()
    for sample in train:
        try:
            ActionReader(sample.home).read(sample.request, sample.answer)
        except Refusal as refusal:
            refused[refusal.code] += "error" not in sample.action
    assert set(+refused) <= {"no_such_entity"}


def test_every_answer_can_be_spoken(train: list[Sample]) -> None:
    for sample in train:
        text = HomeTask(sample.home).parse(sample.request, sample.answer).text
        assert text.endswith(".")
        assert "None" not in text


def test_training_prompts_hold_the_names_that_their_answers_need(train: list[Sample]) -> None:
    assert all(is_answerable(sample) for sample in train)


def test_the_shortlist_rarely_loses_what_an_exam_asks_for(held_out: list[Sample]) -> None:
    assert sum(map(is_answerable, held_out)) / len(held_out) > 0.99


@pytest.fixture(scope="module")
def several(grammar: Grammar) -> list[Sample]:
    """Requests for several things, and answers to "all but" and "everything"."""
    maker = SampleMaker(grammar, seed=12)
    return [maker.draw(category) for category in ("multi", "everything", "except") for _ in range(150)]


def test_no_answer_says_the_same_action_twice(several: list[Sample]) -> None:
    """The grammar would not let it be written."""
    for sample in several:
        if isinstance(sample.action, list):
            texts = [answer_text(action) for action in sample.action]
            assert len(set(texts)) == len(texts)


def test_what_follows_a_command_is_a_command(several: list[Sample]) -> None:
    """ "And would you mind", "then i'd like": people begin with these, and go on with a verb."""
    pairs = (each for each in several if " and also " in each.request or " then " in each.request)
    for sample in pairs:
        later = re.split(" and also | and then | then ", sample.request)[1:]
        assert not any(
            re.match("(would you|i'd like|i want|could|how about|do me|is |are )", part) for part in later
        )


def test_what_is_asked_for_second_stands_second(several: list[Sample]) -> None:
    """In most pairs of named things, the prompt's lines and the answer's actions have the same order."""
    ordered = []
    for sample in several:
        names = (
            [action["slots"].get("name") for action in sample.action]
            if isinstance(sample.action, list)
            else []
        )
        places = [sample.prompt.partition("\n")[2].find(f" {normalise(name)}") for name in names if name]
        if len(places) > 1 and min(places) >= 0:
            ordered.append(places == sorted(places))
    assert len(ordered) > 30
    assert sum(ordered) / len(ordered) > 0.9


def test_an_exam_survives_its_file(held_out: list[Sample], tmp_path) -> None:
    save_exam(tmp_path / "exam.jsonl", held_out[:50])
    assert load_exam(tmp_path / "exam.jsonl") == held_out[:50]


@pytest.mark.parametrize(
    ("wanted", "written", "exact"),
    [
        ('{"a": 1}', '{"a":1}', True),
        ('{"a": " Lamp"}', '{"a": "lamp"}', True),
        ('[{"a": 1}, {"a": 2}]', '[{"a": 2}, {"a": 1}]', True),
        ('[{"a": 1}, {"a": 2}]', '[{"a": 1}]', False),
        ('{"a": 1}', '[{"a": 1}, {"a": 1}]', True),
        ('{"a": 1}', '{"a": "1"}', False),
        ('{"a": 1}', '{"a": 1', False),
    ],
)
def test_exact_means_the_same_json(wanted: str, written: str, exact: bool) -> None:
    assert is_exact(wanted, written) is exact
