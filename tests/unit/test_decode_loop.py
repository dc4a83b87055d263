"""The decode loop's table, row by row, and its invariants under random confidences."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.decode import AskCloud, DecodeLoop, Finish, Guess, RunStage
from edge_agent.exits import ExitPolicy
from edge_agent.token_paths import Path, TokenPaths

STOP = 99


def make_loop(*, use_cloud: bool = True, thresholds=(0.8, 0.8), max_new_tokens: int = 4) -> DecodeLoop:
    return DecodeLoop(
        3, ExitPolicy(thresholds), max_new_tokens=max_new_tokens, stop_tokens=(STOP,), use_cloud=use_cloud
    )


def test_a_sure_first_exit_is_the_token_and_the_next_position_starts_at_the_first_stage():
    loop = make_loop()
    loop.on_guess(Guess(7, 0.9))
    assert loop.next_action() == RunStage(0)
    assert [(t.token, t.rung, t.degraded) for t in loop.tokens] == [(7, "edge-1", False)]


def test_an_unsure_ladder_ends_at_the_cloud_with_the_present_position():
    loop = make_loop()
    loop.on_guess(Guess(7, 0.5))
    assert loop.next_action() == RunStage(1)
    loop.on_guess(Guess(8, 0.6))
    assert loop.next_action() == AskCloud(2)
    loop.on_cloud_token(Guess(9, 0.7))
    assert [(t.token, t.rung) for t in loop.tokens] == [(9, "cloud")]
    assert loop.position == 3


def test_an_absent_cloud_leaves_the_deepest_guess_marked_degraded():
    loop = make_loop()
    loop.on_guess(Guess(7, 0.5))
    loop.on_guess(Guess(8, 0.6))
    loop.on_cloud_unavailable()
    (token,) = loop.tokens
    assert (token.token, token.rung, token.degraded) == (8, "edge-2", True)


def test_standalone_never_asks_and_never_degrades():
    loop = make_loop(use_cloud=False)
    loop.on_guess(Guess(7, 0.1))
    loop.on_guess(Guess(8, 0.1))
    (token,) = loop.tokens
    assert (token.token, token.rung, token.degraded) == (8, "edge-2", False)


def test_a_stop_token_ends_the_answer_and_is_not_kept():
    loop = make_loop()
    loop.on_guess(Guess(STOP, 0.9))
    assert loop.next_action() == Finish("stop")
    assert loop.tokens == []
    assert loop.stop is not None
    assert loop.stop.rung == "edge-1"


def test_threshold_one_is_passed_by_no_confidence():
    loop = make_loop(thresholds=(1.0, 1.0))
    loop.on_guess(Guess(7, 1.0))
    loop.on_guess(Guess(7, 1.0))
    assert loop.next_action() == AskCloud(2)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200), st.integers(1, 8), st.booleans())
def test_every_token_comes_from_exactly_one_rung_and_the_bound_holds(confidences, bound, use_cloud):
    loop = make_loop(use_cloud=use_cloud, max_new_tokens=bound)
    supply = iter(confidences * 50)
    steps = 0
    while not isinstance(action := loop.next_action(), Finish):
        steps += 1
        before = len(loop.tokens)
        if isinstance(action, AskCloud):
            assert use_cloud
            assert action.position == loop.position
            loop.on_cloud_token(Guess(1, 0.5))
            assert len(loop.tokens) == before + 1
        else:
            loop.on_guess(Guess(1, next(supply)))
            assert len(loop.tokens) - before in (0, 1)
    assert len(loop.tokens) == bound
    assert steps <= 3 * bound


def constrained(*steps: tuple[int, ...], **wishes) -> DecodeLoop:
    return DecodeLoop(
        3,
        ExitPolicy((0.8, 0.8)),
        max_new_tokens=wishes.get("max_new_tokens", 9),
        stop_tokens=(STOP,),
        use_cloud=wishes.get("use_cloud", True),
        constraint=TokenPaths(_path(steps)),
    )


def _path(steps):
    return [Path((token,), lambda: _path(steps[1:])) for token in steps[0]] if steps else []


def test_forced_tokens_are_kept_with_no_stage_run_and_counted_apart():
    loop = constrained((1, 2), (3,), (4,), (5, 6), (STOP,))
    assert loop.next_action() == RunStage(0, (1, 2))
    loop.on_guess(Guess(1, 0.9))
    assert [(token.token, token.rung) for token in loop.tokens] == [
        (1, "edge-1"),
        (3, "forced"),
        (4, "forced"),
    ]
    assert loop.next_action() == RunStage(0, (5, 6))
    assert loop.position == 5
    loop.on_guess(Guess(6, 0.9))
    assert loop.next_action() == Finish("stop")
    assert loop.stop is not None
    assert loop.stop.rung == "forced"


def test_an_answer_may_begin_with_forced_tokens():
    loop = constrained((1,), (2, 3))
    assert [token.token for token in loop.tokens] == [1]
    assert loop.next_action() == RunStage(0, (2, 3))


def test_the_length_limit_holds_for_forced_tokens_too():
    loop = constrained((1, 2), (3,), (4,), max_new_tokens=2)
    loop.on_guess(Guess(1, 0.9))
    assert loop.next_action() == Finish("length")
    assert len(loop.tokens) == 2


def test_every_rung_is_told_what_is_allowed():
    loop = constrained((1, 2), (3, 4))
    loop.on_guess(Guess(1, 0.1))
    assert loop.next_action() == RunStage(1, (1, 2))
    loop.on_guess(Guess(1, 0.1))
    assert loop.next_action() == AskCloud(2, (1, 2))
    loop.on_cloud_token(Guess(2, 0.5))
    assert loop.next_action() == RunStage(0, (3, 4))


def test_a_cloud_token_that_may_not_come_here_is_no_answer():
    loop = constrained((1, 2), (3, 4))
    loop.on_guess(Guess(1, 0.1))
    loop.on_guess(Guess(2, 0.1))
    loop.on_cloud_token(Guess(7, 1.0))
    (token,) = loop.tokens
    assert (token.token, token.degraded) == (2, True)
