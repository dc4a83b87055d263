"""Whatever the grammar lets a model write is an action or a refusal that the home understands."""

from __future__ import annotations

import json
import random
import time

import pytest

from edge_agent.home.actions import ActionReader
from edge_agent.home.grammar import ActionGrammar
from edge_agent.home.home import parse_home
from edge_agent.home.prompt import answer_text
from edge_agent.home.refusal import Refusal
from edge_agent.home.shortlist import MAX_REQUEST_WORDS, Shortlister
from edge_agent.home.vocabulary import REQUIRED_SLOTS
from edge_agent.token_paths import TokenPaths

HOME = parse_home("""
area: Kitchen
floors: [{name: First floor, aliases: [upstairs]}]
areas: [{name: Kitchen}, {name: Bedroom, floor: First floor}, {name: Bed nook}]
entities:
  - {id: light.a, name: Bedroom lamp, area: Bedroom}
  - {id: light.b, name: Bedroom ceiling light, area: Bedroom}
  - {id: light.c, name: Kitchen light, area: Kitchen}
  - {id: switch.kettle, name: Kettle, area: Kitchen}
  - {id: media_player.tv, name: TV, area: Bedroom}
  - {id: climate.t, name: Thermostat, area: Kitchen}
  - {id: todo.s, name: Shopping}
  - {id: person.e, name: Emma}
""")
END = 0


def encode(text: str) -> list[int]:
    """A token a character."""
    return [ord(character) for character in text]


GRAMMAR = ActionGrammar(encode, [END])


def paths(request: str) -> TokenPaths:
    return GRAMMAR.constraint(request, Shortlister(HOME).pick(request))


def accepts(request: str, answer: str) -> bool:
    walk = paths(request)
    for token in [*encode(answer), END]:
        if token not in walk.allowed():
            return False
        walk.accept(token)
    return walk.allowed() == []


def written(request: str, seed: int) -> str:
    """A random walk to the end."""
    rng, walk, text = random.Random(seed), paths(request), ""
    while (token := rng.choice(walk.allowed())) != END:
        text += chr(token)
        walk.accept(token)
    return text


def outcome(reader: ActionReader, request: str, output: str) -> str:
    try:
        return "done" if reader.read(request, output) else "nothing"
    except Refusal as refusal:
        return refusal.code


REQUESTS = [
    "turn on the bedroom lamp",
    "set the thermostat to 21.5 degrees and the kitchen light to 7 percent",
    "add oat milk and 2 eggs to the shopping list",
    "everything off upstairs except the tv",
    "volume up by 20 percent please",
    "timer for 00012345678901234567890 minutes called pizza",
    "xyzzy",
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_whatever_it_allows_is_understood(request_: str):
    reader = ActionReader(HOME)
    for seed in range(150):
        output = written(request_, seed)
        assert outcome(reader, request_, output) != "not_understood", output


@pytest.mark.parametrize(
    ("request_", "action"),
    [
        ("bedroom lamp off", {"intent": "HassTurnOff", "slots": {"name": "Bedroom lamp"}}),
        ("lights on in here", {"intent": "HassTurnOn", "slots": {"area": "Kitchen", "domain": "light"}}),
        (
            "thermostat to 21.5",
            {"intent": "HassClimateSetTemperature", "slots": {"name": "Thermostat", "temperature": 21.5}},
        ),
        (
            "put oat milk on the shopping list",
            {"intent": "HassShoppingListAddItem", "slots": {"item": "oat milk"}},
        ),
        (
            "kettle on and bedroom lamp blue",
            [
                {"intent": "HassTurnOn", "slots": {"name": "Kettle"}},
                {"intent": "HassLightSet", "slots": {"name": "Bedroom lamp", "color": "blue"}},
            ],
        ),
        ("turn it down by 20 percent", {"intent": "HassSetVolumeRelative", "slots": {"volume_step": -20}}),
        ("dim the kettle", {"intent": "HassTurnOff", "slots": {"name": "Kettle"}}),
        ("dim it", {"intent": "HassLightSet", "slots": {"area": "Kitchen", "brightness": 30}}),
        ("what time is it", {"intent": "HassGetCurrentTime", "slots": {}}),
        ("sing", {"error": "not_a_command"}),
    ],
)  # fmt: skip
def test_right_answers_are_allowed(request_: str, action):
    assert accepts(request_, answer_text(action))


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ("bedroom lamp off", '{"intent": "HassTurnOff", "slots": {"name": " sauna"}}'),
        ("bedroom lamp off", '{"intent": "HassTurnOff", "slots": {"area": " attic"}}'),
        ("bedroom lamp off", '{"intent": "HassExplode", "slots": {}}'),
        ("bedroom lamp off", '{"intent": "HassMediaPause", "slots": {"name": " bedroom lamp"}}'),
        ("thermostat to 21", '{"intent": "HassClimateSetTemperature", "slots": {"temperature": 22}}'),
        ("buy oat milk", '{"intent": "HassShoppingListAddItem", "slots": {"item": " milk oat"}}'),
        ("bedroom lamp off", '[{"intent": "HassTurnOff", "slots": {"name": " bedroom lamp"}}]'),
        ("bedroom lamp off", "ok"),
    ],
)  # fmt: skip
def test_inventions_are_not(request_: str, answer: str):
    assert not accepts(request_, answer)


def test_words_far_into_a_request_are_no_longer_offered():
    """A long request must not make every token of an answer slower than the one before."""
    milk = answer_text({"intent": "HassShoppingListAddItem", "slots": {"item": "milk"}})
    assert accepts("the " * (MAX_REQUEST_WORDS - 1) + "milk", milk)
    assert not accepts("the " * MAX_REQUEST_WORDS + "milk", milk)


def listed(*actions: dict[str, object]) -> str:
    """A list that is not closed yet."""
    return answer_text(list(actions)).removesuffix("]")


def walked(request: str, text: str) -> TokenPaths:
    walk = paths(request)
    for token in encode(text):
        walk.accept(token)
    return walk


def test_an_endless_list_is_not_allowed():
    intents = [
        "HassNevermind", "HassGetCurrentTime", "HassGetCurrentDate", "HassGetWeather", "HassPauseTimer",
        "HassUnpauseTimer", "HassCancelTimer", "HassTimerStatus",
    ]  # fmt: skip
    walk = walked("kettle on", listed(*({"intent": intent, "slots": {}} for intent in intents)))
    assert walk.allowed() == encode("]")


KETTLE = {"intent": "HassTurnOff", "slots": {"name": "Kettle"}}
LAMP = {"intent": "HassTurnOff", "slots": {"name": "Bedroom lamp"}}
OAT_MILK = {"intent": "HassShoppingListAddItem", "slots": {"item": "oat milk"}}
MILK = {"intent": "HassShoppingListAddItem", "slots": {"item": "milk"}}


def test_several_different_actions_are_allowed():
    assert accepts("kettle and bedroom lamp off", answer_text([KETTLE, LAMP]))
    assert accepts("buy oat milk and milk", answer_text([OAT_MILK, MILK]))
    placed = {"intent": "HassTurnOff", "slots": {"name": "Kettle", "area": "Kitchen"}}
    assert accepts("kettle and kitchen kettle off", answer_text([KETTLE, placed]))
    assert accepts("kettle and kitchen kettle off", answer_text([placed, KETTLE]))


@pytest.mark.parametrize("actions", [[KETTLE, KETTLE], [KETTLE, LAMP, KETTLE], [LAMP, KETTLE, KETTLE]])
def test_no_action_comes_twice(actions: list[dict[str, object]]):
    assert not accepts("kettle and bedroom lamp off", answer_text(actions))


def test_what_was_said_twice_may_still_be_added_once():
    assert accepts("milk and milk", answer_text(MILK))
    assert not accepts("milk and milk", answer_text([MILK, MILK]))


def test_an_action_that_can_only_repeat_is_not_begun():
    """There is one way to ask for the time: after it, nothing may lead there again."""
    asked = listed({"intent": "HassGetCurrentTime", "slots": {}}) + ', {"intent": "HassGetCurrent'
    assert walked("what time is it", asked).allowed() == encode("D")


def test_a_slot_whose_only_value_would_repeat_is_not_begun():
    """One room is in sight; what is left is to name none."""
    asked = listed({"intent": "HassCancelAllTimers", "slots": {"area": "Kitchen"}})
    walk = walked("milk", asked + ', {"intent": "HassCancelAllTimers", "slots": {')
    assert walk.allowed() == encode("}")


def test_a_free_word_that_would_repeat_is_not_asked_for():
    """The request has one word, and a shopping list takes nothing else."""
    walk = walked("milk", listed(MILK) + ', {"intent": "HassShoppingList')
    assert walk.allowed() == encode("C")


@pytest.mark.parametrize("intent", sorted(REQUIRED_SLOTS))
@pytest.mark.parametrize("request_", ["bedroom lamp, kettle and emma to 20 percent upstairs", "xyzzy"])
def test_no_action_ends_before_it_says_what_it_needs(intent: str, request_: str):
    assert not accepts(request_, answer_text({"intent": intent, "slots": {}}))


@pytest.mark.parametrize(
    ("request_", "action"),
    [
        ("dim the bedroom lamp", {"intent": "HassLightSet", "slots": {"name": "Bedroom lamp"}}),
        ("dim it", {"intent": "HassLightSet", "slots": {"brightness": 30}}),
        ("off upstairs", {"intent": "HassTurnOff", "slots": {"floor": "First floor"}}),
        ("shopping please", {"intent": "HassListAddItem", "slots": {"name": "Shopping"}}),
        ("light in 5 minutes", {"intent": "HassStartTimer", "slots": {"conversation_command": "light"}}),
    ],
)  # fmt: skip
def test_half_of_what_it_needs_is_not_enough(request_: str, action):
    assert not accepts(request_, answer_text(action))


def test_an_intent_that_nothing_in_sight_completes_is_not_begun():
    """The home has no vacuum and no number was said."""
    walk = walked("start the vacuum", '{"intent": "HassV')
    assert walk.allowed() == encode("a")  # "acuumCleanArea": the kitchen could be meant
    assert "C" in map(chr, walked("start the vacuum", '{"intent": "HassVacuum').allowed())
    assert "S" not in map(chr, walked("start the vacuum", '{"intent": "HassVacuum').allowed())
    with pytest.raises(ValueError, match="not allowed"):
        walked("warm it up", '{"intent": "HassClimateSetT')


def test_a_slot_behind_which_nothing_could_complete_the_action_is_not_offered():
    """A length that is left out can't be said any more behind what to do then."""
    begun = '{"intent": "HassStartTimer", "slots": {"'
    assert "c" not in map(chr, walked("lamp off in 5 minutes", begun).allowed())
    assert "c" in map(chr, walked("lamp off in 5 minutes", f'{begun}minutes": 5, "').allowed())


@pytest.mark.parametrize(
    ("request_", "action"),
    [
        ("thermostat to daylight", {"intent": "HassClimateSetTemperature", "slots": {"temperature": 6500}}),
        ("lamp 21 degrees", {"intent": "HassLightSet", "slots": {"domain": "light", "temperature": 21}}),
        ("turn on emma", {"intent": "HassTurnOn", "slots": {"name": "Emma"}}),
        ("everybody off", {"intent": "HassTurnOff", "slots": {"domain": "person"}}),
        ("dim the blinds", {"intent": "HassLightSet", "slots": {"domain": "cover", "brightness": 30}}),
    ],
)  # fmt: skip
def test_what_makes_no_sense_for_an_intent_is_not_offered(request_: str, action):
    assert not accepts(request_, answer_text(action))


@pytest.mark.parametrize("request_", [*REQUESTS, "milk milk milk milk"])
def test_a_list_never_runs_into_a_dead_end(request_: str):
    """A walk that begins each action like the first still comes to an end; all are different."""
    for seed in range(60):
        text = eager(request_, seed)
        actions = [str(action) for action in json.loads(text)]
        assert len(set(actions)) == len(actions)


def eager(request: str, seed: int) -> str:
    """A list written by copying its own beginning for as long as that is allowed."""
    rng, walk, text = random.Random(seed), paths(request), ""
    wanted = "["
    while (allowed := walk.allowed()) != [END]:
        assert allowed, text
        token = ord(wanted[0]) if wanted and ord(wanted[0]) in allowed else rng.choice(allowed)
        wanted = wanted[1:] if wanted and chr(token) == wanted[0] else ""
        text += chr(token)
        walk.accept(token)
        if text.endswith('}, {"intent": "'):
            wanted = text[len('[{"intent": "') :]
    return text


def test_a_long_list_of_one_word_stays_quick():
    """The ways to hear the same words must not multiply with each action of a list."""
    items = [
        {"intent": "HassShoppingListAddItem", "slots": {"item": " ".join(["milk"] * n)}} for n in range(1, 9)
    ]
    started = time.process_time()
    assert accepts(" ".join(["milk"] * MAX_REQUEST_WORDS), answer_text(items))
    assert time.process_time() - started < 2.0
