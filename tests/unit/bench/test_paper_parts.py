"""The parts of `bench paper` and `bench wan` that need no network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from ops.bench.link_proxy import Link, Schedule, Traffic
from ops.bench.paper.alone import write_drafting, write_plainly
from ops.bench.paper.climb import Climb, Rung, rungs_of
from ops.bench.paper.edge import BLOCKING, CE_COLLM, CLOUD_ONLY, EXACT, LOOKAHEAD
from ops.bench.paper.model import TINY, llama_config, planted_weights, scripted_bundle
from ops.bench.paper.scene import Scene, together
from ops.bench.paper.script import SURE, THRESHOLD, Pattern, Script, write_script
from ops.bench.paper.timing import Timing, agreement
from ops.bench.paper.wan import Curve, crossings_of
from ops.bench.paper.words import DraftPlan
from ops.bench.paper.writing import Writing
from shared.errors import ConfigError
from shared.model.loading import load_cloud, load_edge

PROMPT = (5, 99, 7, 200)
NEW_TOKENS = 24


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> list[Rung]:
    torch.set_num_threads(1)
    bundle = scripted_bundle(TINY, tmp_path_factory.mktemp("models"))
    return rungs_of(bundle, bundle.thresholds, load_edge(bundle), load_cloud(bundle))


@pytest.fixture(scope="module")
def text(ladder: list[Rung]) -> tuple[int, ...]:
    """The unsplit model's answer to `PROMPT`, by Hugging Face's own code."""
    model = LlamaForCausalLM(llama_config(TINY)).eval()
    model.load_state_dict({name: value.float() for name, value in planted_weights(TINY).items()})
    with torch.inference_mode():
        ids = torch.tensor([PROMPT])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False
        )
    return tuple(out[0, len(PROMPT) :].tolist())


def timing(total_s: float = 1.0, tokens: tuple[int, ...] = (1, 2)) -> Timing:
    return Timing(tokens, total_s, 0.2, 0.3, 1, 10, Traffic(100, 10))


# --- the link ------------------------------------------------------------------------------------


def test_bytes_arrive_half_a_round_trip_after_the_line_has_taken_them() -> None:
    schedule = Schedule(Link(rtt_ms=10, mbit_s=8))  # 1 byte in a microsecond
    assert schedule.arrival_s(1000, now_s=1.0) == pytest.approx(1.0 + 0.001 + 0.005)


def test_bytes_wait_for_those_before_them() -> None:
    schedule = Schedule(Link(rtt_ms=0, mbit_s=8))
    schedule.arrival_s(5000, now_s=1.0)
    assert schedule.arrival_s(1000, now_s=1.001) == pytest.approx(1.006)
    assert schedule.sent_bytes == 6000


def test_a_link_that_becomes_shorter_overtakes_nothing() -> None:
    schedule = Schedule(Link(rtt_ms=100, mbit_s=1000))
    slow_s = schedule.arrival_s(10, now_s=1.0)
    schedule.link = Link(rtt_ms=1, mbit_s=1000)
    assert schedule.arrival_s(10, now_s=1.001) >= slow_s


@pytest.mark.parametrize(("rtt_ms", "mbit_s"), [(-1, 30), (3, 0)])
def test_a_link_that_cannot_be_is_refused(rtt_ms: float, mbit_s: float) -> None:
    with pytest.raises(ConfigError, match="can't be"):
        Link(rtt_ms, mbit_s)


# --- the script ----------------------------------------------------------------------------------


def a_script(rate: float = 0.25, confirmed: float = 0.5) -> Script:
    return write_script(3, tuple(range(40)), Pattern(rate, 0.5, confirmed), exits=2, vocab=99, seed=4)


def test_a_script_has_the_patterns_shares() -> None:
    script = a_script()
    assert script.request_rate == pytest.approx(0.25)
    assert script.confirmed == pytest.approx(0.5)
    assert script.sure_at.count(0) == script.sure_at.count(1) == 15


def test_a_sure_guess_is_always_the_texts_token() -> None:
    script = a_script(confirmed=0.0)
    for index, sure_at in enumerate(script.sure_at):
        assert (script.guesses[index] == script.text[index]) is (sure_at is not None)


def test_a_later_exit_is_sure_where_an_earlier_one_was() -> None:
    script = a_script()
    first = script.sure_at.index(0)
    assert script.says(3 + first, 0)[1] == script.says(3 + first, 1)[1] == SURE
    last = script.sure_at.index(1)
    assert script.says(3 + last, 0)[1] < THRESHOLD < script.says(3 + last, 1)[1]


def test_drafts_past_the_text_are_answered_too() -> None:
    assert a_script().says(3 + 40, 0)


def test_the_same_seed_writes_the_same_script() -> None:
    assert a_script() == a_script()


# --- a cloud that answers alone --------------------------------------------------------------------


def test_plain_writing_is_the_unsplit_models_text(ladder: list[Rung], text: tuple[int, ...]) -> None:
    writing = Writing(PROMPT, NEW_TOKENS)
    pieces = list(write_plainly(Climb(ladder), writing))
    assert writing.tokens == text
    assert len(pieces) == NEW_TOKENS
    assert tuple(token for piece in pieces for token in piece.tokens) == text


@pytest.mark.parametrize("confirmed", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    "plan",
    [DraftPlan(8), DraftPlan(8, bonus=True), DraftPlan(4, stop_unsure=False, bonus=True), DraftPlan(1)],
    ids=str,
)
def test_drafting_writes_the_same_text_however_often_drafts_are_wrong(
    ladder: list[Rung], text: tuple[int, ...], plan: DraftPlan, confirmed: float
) -> None:
    script = write_script(len(PROMPT), text, Pattern(0.4, 0.5, confirmed), exits=2, vocab=TINY.vocab, seed=1)
    writing = Writing(PROMPT, NEW_TOKENS)
    pieces = list(write_drafting(Climb(ladder, script), writing, plan))
    assert writing.tokens == text
    assert tuple(token for piece in pieces for token in piece.tokens) == text


def test_right_drafts_save_forwards_of_the_last_rung(ladder: list[Rung], text: tuple[int, ...]) -> None:
    script = write_script(len(PROMPT), text, Pattern(0.0, 0.5, 1.0), exits=2, vocab=TINY.vocab, seed=1)
    pieces = list(write_drafting(Climb(ladder, script), Writing(PROMPT, NEW_TOKENS), DraftPlan(8)))
    assert len(pieces) == NEW_TOKENS // 8


def test_a_stop_token_that_was_drafted_in_vain_does_not_end_the_text(
    ladder: list[Rung], text: tuple[int, ...]
) -> None:
    wrong = [*text[:3], 3, *text[4:]]
    script = Script(len(PROMPT), text, (None,) * NEW_TOKENS, wrong)
    writing = Writing(PROMPT, NEW_TOKENS, stops=(3,))
    list(write_drafting(Climb(ladder, script), writing, DraftPlan(8, stop_unsure=False)))
    assert writing.tokens == text


class _Chain:
    """Only `token + 1` may follow an even token."""

    def __init__(self) -> None:
        self._last = 1

    def allowed(self) -> list[int] | None:
        return None if self._last % 2 else [self._last + 1]

    def accept(self, token: int) -> None:
        self._last = token


def test_forced_tokens_are_written_without_being_asked_for() -> None:
    writing = Writing((1,), 3, constraint=_Chain)
    writing.keep(8)
    assert writing.tokens == (8, 9)
    assert not writing.ended


def test_a_text_that_was_cut_goes_on_by_its_grammar() -> None:
    writing = Writing((1,), 4, constraint=_Chain)
    writing.keep(8)
    writing.keep(20)
    assert writing.ended
    writing.cut(3)
    assert writing.tokens == (8, 9)
    assert not writing.ended
    writing.cut(2)
    assert writing.tokens == (8, 9), "the forced token comes back"


# --- scenes --------------------------------------------------------------------------------------


def a_scene(**texts: tuple[int, ...]) -> Scene:
    names = {"cloud": CLOUD_ONLY, "blocking": BLOCKING, "lookahead": LOOKAHEAD, "exact": EXACT}
    scene = Scene("table", Link(3, 30), scripted=True, texts=[(1, 2)])
    for key, tokens in texts.items():
        scene.add(names[key], timing(tokens=tokens))
    return scene


def test_equal_texts_break_no_promise() -> None:
    assert a_scene(cloud=(1, 2), blocking=(1, 2), lookahead=(1, 2), exact=(1, 2)).broken() == []


@pytest.mark.parametrize("row", ["blocking", "lookahead", "exact"])
def test_a_text_of_ours_that_differs_is_reported(row: str) -> None:
    texts = {"cloud": (1, 2), "blocking": (1, 2), "lookahead": (1, 2), "exact": (1, 2)}
    assert a_scene(**{**texts, row: (1, 3)}).broken()


def test_lookahead_must_write_the_blocking_text_where_exits_are_real() -> None:
    scene = a_scene(cloud=(1, 2), blocking=(7, 7), lookahead=(7, 8))
    scene.scripted = False
    assert len(scene.broken()) == 1


def test_a_row_is_compared_over_the_same_prompts() -> None:
    scene = Scene("table", Link(3, 30), scripted=True, texts=[(1, 2), (1, 2)])
    for ours_s, theirs_s in ((1.0, 2.0), (3.0, 4.0)):
        scene.add(LOOKAHEAD, timing(ours_s))
        scene.add(CE_COLLM, timing(theirs_s))
    assert scene.ratio(LOOKAHEAD, CE_COLLM) == pytest.approx((0.5 + 0.75) / 2)
    assert scene.ratio(LOOKAHEAD, CLOUD_ONLY) is None


def test_rows_of_several_scenes_are_compared_by_their_sums() -> None:
    scenes = []
    for ours_s, theirs_s in ((1.0, 2.0), (5.0, 4.0)):
        scene = Scene("table", Link(3, 30), scripted=True, texts=[(1, 2)])
        scene.add(LOOKAHEAD, timing(ours_s))
        scene.add(CE_COLLM, timing(theirs_s))
        scenes.append(scene)
    assert together(scenes, LOOKAHEAD, CE_COLLM) == pytest.approx(1.0)
    assert together(scenes, LOOKAHEAD, CLOUD_ONLY) is None


def test_agreement_counts_to_the_first_difference_and_over_all() -> None:
    assert agreement((1, 2, 9, 4), (1, 2, 3, 4)) == (2, 0.75, False)
    assert agreement((1, 2), (1, 2, 3, 4)).share == pytest.approx(0.5)


def test_time_that_neither_side_computes_is_the_links() -> None:
    assert timing(1.0).communication_s == pytest.approx(0.5)
    assert timing(0.4).communication_s == 0.0


def test_a_sampled_answers_bytes_stand_for_all_of_its_steps() -> None:
    sampled = Timing((1,), 1.0, 0.1, 0.1, 8, 1, scale=8.0)
    assert sampled.over(Traffic(100, 10)).traffic == Traffic(800, 80)


# --- crossings -----------------------------------------------------------------------------------


def test_a_crossing_lies_between_the_links_where_the_order_changes() -> None:
    ours = Curve("ours", 30, ((1, 1.0), (10, 1.0), (100, 1.0)))
    theirs = Curve("theirs", 30, ((1, 0.5), (10, 0.9), (100, 4.0)))
    (crossing,) = crossings_of([ours, theirs], [("ours", "theirs")])
    assert 10 < crossing.rtt_ms < 100
    assert (crossing.name, crossing.other) == ("theirs", "ours")


def test_rows_that_keep_their_order_cross_nowhere() -> None:
    ours, theirs = Curve("ours", 30, ((1, 1.0), (10, 1.0))), Curve("theirs", 30, ((1, 2.0), (10, 3.0)))
    assert crossings_of([ours, theirs], [("ours", "theirs")]) == []


def test_a_made_model_is_made_once(tmp_path: Path) -> None:
    first = scripted_bundle(TINY, tmp_path)
    stamp = (first.path / "manifest.json").stat().st_mtime_ns
    assert scripted_bundle(TINY, tmp_path).digest == first.digest
    assert (first.path / "manifest.json").stat().st_mtime_ns == stamp
