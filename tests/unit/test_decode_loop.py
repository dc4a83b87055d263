"""The decode loop's table, row by row, and its invariants under random confidences."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.decode import MAX_ASKS, DecodeLoop, Use
from edge_agent.decode_actions import AskCloud, Finish, Rewind, RunStage, Wait
from edge_agent.exits import ExitPolicy
from edge_agent.lookahead import Lookahead
from edge_agent.reply_time import ReplyTime
from edge_agent.rungs import DecodedToken, Guess
from edge_agent.token_paths import Path, TokenPaths
from edge_agent.want import Want

STOP = 99


def make_loop(
    *, use_cloud: Use = "unsure", thresholds=(0.8, 0.8), max_new_tokens: int = 4, lookahead: int = 0
) -> DecodeLoop:
    return DecodeLoop(
        3,
        ExitPolicy(thresholds),
        max_new_tokens=max_new_tokens,
        stop_tokens=(STOP,),
        use_cloud=use_cloud,
        lookahead=Lookahead(lookahead),
    )


def test_a_sure_first_exit_is_the_token_and_the_next_position_starts_at_the_first_stage():
    loop = make_loop()
    loop.on_guess(Guess(7, 0.9), 0.0)
    assert loop.next_action(0.0) == RunStage(0)
    assert [(t.token, t.rung, t.degraded) for t in loop.tokens] == [(7, "edge-1", False)]


def test_an_unsure_ladder_ends_at_the_cloud_with_the_present_position():
    loop = make_loop()
    loop.on_guess(Guess(7, 0.5), 0.0)
    assert loop.next_action(0.0) == RunStage(1)
    loop.on_guess(Guess(8, 0.6), 0.0)
    assert loop.next_action(0.0) == AskCloud((Want(2),))
    loop.on_cloud_token(2, Guess(9, 0.7))
    assert [(t.token, t.rung) for t in loop.tokens] == [(9, "cloud")]
    assert loop.position == 3


def test_an_absent_cloud_leaves_the_deepest_guess_marked_degraded():
    loop = make_loop()
    loop.on_guess(Guess(7, 0.5), 0.0)
    loop.on_guess(Guess(8, 0.6), 0.0)
    assert loop.next_action(0.0) == AskCloud((Want(2),))
    assert loop.next_action(0.0) == Wait()
    loop.on_cloud_unavailable()
    (token,) = loop.tokens
    assert (token.token, token.rung, token.degraded) == (8, "edge-2", True)


def test_standalone_never_asks_and_never_degrades():
    loop = make_loop(use_cloud="never")
    loop.on_guess(Guess(7, 0.1), 0.0)
    loop.on_guess(Guess(8, 0.1), 0.0)
    (token,) = loop.tokens
    assert (token.token, token.rung, token.degraded) == (8, "edge-2", False)


def test_a_stop_token_ends_the_answer_and_is_not_kept():
    loop = make_loop()
    loop.on_guess(Guess(STOP, 0.9), 0.0)
    assert loop.next_action(0.0) == Finish("stop")
    assert loop.tokens == []
    assert loop.stop is not None
    assert loop.stop.rung == "edge-1"


def test_threshold_one_is_passed_by_no_confidence():
    loop = make_loop(thresholds=(1.0, 1.0), lookahead=4)
    assert loop.next_action(0.0) == RunStage(0, guess=False)
    loop.on_guess(None, 0.0)
    assert loop.next_action(0.0) == RunStage(1, asked=True)
    loop.on_guess(Guess(7, 1.0), 0.0)
    assert loop.next_action(0.0) == AskCloud((Want(2),))


class Talk:
    """A language of three words whose edge guesses as it is told; the cloud always says the right one.

    The right word after a text depends on all of it, so a text that was not rewound shows.
    """

    def __init__(self, seed: int, agreement: float, sureness: float) -> None:
        self._seed, self._agreement, self._sureness = seed, agreement, sureness

    def right(self, text: tuple[int, ...]) -> int:
        return Random(f"right {self._seed} {text}").choice([1, 2, 3, 3, STOP] if len(text) > 6 else [1, 2, 3])

    def guess(self, text: tuple[int, ...], stage: int) -> Guess:
        random = Random(f"guess {self._seed} {text} {stage}")
        agrees = random.random() < self._agreement
        confidence = 0.9 if random.random() < self._sureness else 0.3
        return Guess(self.right(text) if agrees else random.choice([1, 2, 3, STOP]), confidence)


def decoded(talk: Talk, use: Use, limit: int, delays: Random | None = None) -> DecodeLoop:
    """Run a loop to its end; answers come after as many actions as `delays` says, in any order."""
    lookahead = Lookahead(limit, ReplyTime(1.0, 0.5))
    loop = DecodeLoop(1, ExitPolicy((0.8, 0.8)), 24, (STOP,), use, lookahead=lookahead)
    text: list[int] = [0]  # what the stages have read
    asked: list[tuple[int, tuple[int, ...]]] = []
    for tick in range(2_000):
        match loop.next_action(tick * 0.01):
            case RunStage(stage):
                text += loop.text(len(text) - 1)
                arrivals(loop, talk, asked, delays)
                loop.on_guess(talk.guess(tuple(text), stage), tick * 0.01)
            case AskCloud(wants):
                new = loop.text(len(text) - 1)
                asked += [(w.position, (*text, *new)[: w.position + 1]) for w in wants]
            case Rewind(length):
                del text[length:]
                asked[:] = [each for each in asked if each[0] < length]
            case Wait():
                assert asked, "nothing is asked, so nothing will come"
                arrivals(loop, talk, asked, None)
            case Finish():
                return loop
    raise AssertionError("the loop does not end")


def arrivals(loop: DecodeLoop, talk: Talk, asked: list, delays: Random | None) -> None:
    """One answer, the oldest, or (with `delays`) any or none."""
    if not asked or (delays is not None and delays.random() < 0.5):
        return
    position, text = asked.pop(delays.randrange(len(asked)) if delays else 0)
    loop.on_cloud_token(position, Guess(talk.right(text), 0.7))


talks = st.builds(
    Talk, st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 0.8, 1.0]), st.sampled_from([0, 0.5, 0.9])
)


@given(talks, st.sampled_from(["never", "unsure", "always"]), st.integers(1, 20), st.integers(0, 1000))
def test_the_text_with_lookahead_is_the_text_without(talk, use, limit, seed):
    blocking = decoded(talk, use, 0)
    ahead = decoded(talk, use, limit, Random(seed))
    assert ahead.tokens == blocking.tokens
    assert ahead.stop == blocking.stop
    assert blocking.discarded == 0


@given(talks, st.integers(0, 20), st.integers(0, 1000))
def test_exact_text_is_the_clouds_own(talk, limit, seed):
    text: list[int] = [0]
    while len(text) < 25 and text[-1] != STOP:
        text.append(talk.right(tuple(text)))
    loop = decoded(talk, "always", limit, Random(seed))
    said = [token.token for token in loop.tokens] + ([STOP] if loop.stop else [])
    assert said == text[1:]
    assert {token.rung for token in loop.tokens} <= {"cloud"}


def test_a_disagreement_takes_back_what_stood_behind_it_and_late_words_about_it_are_nothing():
    loop = DecodeLoop(1, ExitPolicy((0.8,)), 9, (STOP,), "unsure", lookahead=Lookahead(4))
    loop.next_action(0.0)
    loop.on_guess(Guess(1, 0.1), 0.0)
    assert loop.next_action(0.0) == AskCloud((Want(0),))
    assert loop.next_action(0.0) == RunStage(0)
    loop.on_guess(Guess(2, 0.1), 0.0)
    assert loop.next_action(0.0) == AskCloud((Want(1),))
    assert loop.text(0) == [1, 2]
    loop.on_cloud_token(0, Guess(3, 0.5))
    loop.on_cloud_token(1, Guess(2, 0.5))
    assert loop.next_action(0.0) == Rewind(1)
    assert loop.text(0) == [3]
    assert loop.discarded == 1


def test_a_guess_about_a_text_that_was_taken_back_meanwhile_is_nothing():
    loop = DecodeLoop(1, ExitPolicy((0.8,)), 9, (STOP,), "unsure", lookahead=Lookahead(4))
    loop.on_guess(Guess(1, 0.1), 0.0)
    loop.next_action(0.0)
    assert loop.next_action(0.0) == RunStage(0)
    loop.on_cloud_token(0, Guess(3, 0.5))
    loop.on_guess(Guess(2, 0.9), 0.0)
    assert loop.next_action(0.0) == Rewind(1)
    assert loop.text(0) == [3]


def test_when_the_cloud_is_away_every_open_question_is_the_edges_own_and_marked():
    loop = DecodeLoop(1, ExitPolicy((0.8,)), 9, (STOP,), "unsure", lookahead=Lookahead(4))
    for confidence in (0.1, 0.9, 0.1):
        while not isinstance(loop.next_action(0.0), RunStage):
            pass
        loop.on_guess(Guess(1, confidence), 0.0)
    loop.next_action(0.0)
    loop.on_cloud_unavailable()
    assert [token.degraded for token in loop.tokens] == [True, False, True]


def two_asked() -> DecodeLoop:
    """A loop that has guessed 5 and 6, and asked about each."""
    loop = DecodeLoop(1, ExitPolicy((0.8,)), 9, (STOP,), "unsure", lookahead=Lookahead(4))
    for position, token in enumerate((5, 6)):
        assert loop.next_action(0.0) == RunStage(0)
        loop.on_guess(Guess(token, 0.1), 0.0)
        assert loop.next_action(0.0) == AskCloud((Want(position),))
    return loop


def test_a_question_that_is_too_late_takes_no_other_with_it():
    """All that was on its way was given up, although its answers came in time."""
    loop = two_asked()
    loop.on_too_late((Want(1),))
    assert loop.tokens == []
    loop.on_cloud_token(0, Guess(5, 0.9))
    assert [(token.token, token.rung, token.degraded) for token in loop.tokens] == [
        (5, "cloud", False),
        (6, "edge-1", True),
    ]


def test_what_was_too_late_to_ask_goes_with_the_draft_that_it_stood_on():
    loop = two_asked()
    loop.on_too_late((Want(1),))
    loop.on_cloud_token(0, Guess(7, 0.9))
    assert loop.next_action(0.0) == Rewind(1)
    assert loop.text(0) == [7]
    assert loop.discarded == 1


def test_questions_wait_for_room_and_then_go_up_together():
    loop = DecodeLoop(1, ExitPolicy((0.8,)), 20, (STOP,), "always", lookahead=Lookahead(16))
    asks: list[AskCloud] = []
    for _ in range(24):
        match loop.next_action(0.0):
            case RunStage():
                loop.on_guess(Guess(1, 0.9), 0.0)
            case AskCloud() as ask:
                asks.append(ask)
    assert [len(ask.wants) for ask in asks] == [1] * MAX_ASKS
    loop.on_cloud_token(0, Guess(1, 0.9))
    ask = loop.next_action(0.0)
    assert isinstance(ask, AskCloud)
    assert len(ask.wants) > 1


def test_nothing_is_drafted_while_others_want_the_stages():
    loop = DecodeLoop(1, ExitPolicy((0.8,)), 9, (STOP,), "unsure", lookahead=Lookahead(4))
    loop.on_guess(Guess(1, 0.1), 0.0)
    loop.next_action(0.0)
    assert loop.next_action(0.0, crowded=True) == Wait()
    assert loop.next_action(0.0) == RunStage(0)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=200),
    st.integers(1, 8),
    st.sampled_from(["never", "unsure"]),
)
def test_every_token_comes_from_exactly_one_rung_and_the_bound_holds(confidences, bound, use_cloud):
    loop = make_loop(use_cloud=use_cloud, max_new_tokens=bound)
    supply = iter(confidences * 50)
    steps = 0
    while not isinstance(action := loop.next_action(0.0), Finish):
        steps += 1
        before = len(loop.tokens)
        if isinstance(action, AskCloud):
            assert use_cloud == "unsure"
            (want,) = action.wants
            assert want.position == loop.position - 1
            loop.on_cloud_token(want.position, Guess(1, 0.5))
            assert len(loop.tokens) == before + 1
        else:
            loop.on_guess(Guess(1, next(supply)), 0.0)
            assert len(loop.tokens) - before in (0, 1)
    assert len(loop.tokens) == bound
    assert steps <= 3 * bound


def constrained(*steps: tuple[int, ...], **wishes) -> DecodeLoop:
    return DecodeLoop(
        3,
        ExitPolicy(wishes.get("thresholds", (0.8, 0.8))),
        max_new_tokens=wishes.get("max_new_tokens", 9),
        stop_tokens=(STOP,),
        use_cloud=wishes.get("use_cloud", "unsure"),
        constraint=TokenPaths(_path(steps)),
    )


def _path(steps):
    return [Path((token,), lambda: _path(steps[1:])) for token in steps[0]] if steps else []


def test_forced_tokens_are_kept_with_no_stage_run_and_counted_apart():
    loop = constrained((1, 2), (3,), (4,), (5, 6), (STOP,))
    assert loop.next_action(0.0) == RunStage(0, (1, 2))
    loop.on_guess(Guess(1, 0.9), 0.0)
    assert [(token.token, token.rung) for token in loop.tokens] == [
        (1, "edge-1"),
        (3, "forced"),
        (4, "forced"),
    ]
    assert loop.next_action(0.0) == RunStage(0, (5, 6))
    assert loop.position == 5
    loop.on_guess(Guess(6, 0.9), 0.0)
    assert loop.next_action(0.0) == Finish("stop")
    assert loop.stop is not None
    assert loop.stop.rung == "forced"


def test_an_answer_may_begin_with_forced_tokens():
    loop = constrained((1,), (2, 3))
    assert [token.token for token in loop.tokens] == [1]
    assert loop.next_action(0.0) == RunStage(0, (2, 3))


def test_the_length_limit_holds_for_forced_tokens_too():
    loop = constrained((1, 2), (3,), (4,), max_new_tokens=2)
    loop.on_guess(Guess(1, 0.9), 0.0)
    assert loop.next_action(0.0) == Finish("length")
    assert len(loop.tokens) == 2


def test_every_rung_is_told_what_is_allowed():
    loop = constrained((1, 2), (3, 4))
    loop.on_guess(Guess(1, 0.1), 0.0)
    assert loop.next_action(0.0) == RunStage(1, (1, 2))
    loop.on_guess(Guess(1, 0.1), 0.0)
    assert loop.next_action(0.0) == AskCloud((Want(2, (1, 2)),))
    loop.on_cloud_token(2, Guess(2, 0.5))
    assert loop.next_action(0.0) == Rewind(3)
    assert loop.next_action(0.0) == RunStage(0, (3, 4))


def test_a_cloud_token_that_may_not_come_here_is_no_answer():
    loop = constrained((1, 2), (3, 4))
    loop.on_guess(Guess(1, 0.1), 0.0)
    loop.on_guess(Guess(2, 0.1), 0.0)
    loop.next_action(0.0)
    loop.on_cloud_token(2, Guess(7, 1.0))
    (token,) = loop.tokens
    assert (token.token, token.degraded) == (2, True)


def asked_early() -> DecodeLoop:
    """A loop whose question is on its way while the last exit guesses."""
    loop = make_loop(thresholds=(1.0, 1.0), lookahead=4)
    loop.next_action(0.0)
    loop.on_guess(None, 0.0)
    assert loop.next_action(0.0) == RunStage(1, asked=True)
    assert loop.on_states(0.0) == (Want(2),)
    return loop


def test_what_is_asked_before_the_guess_is_not_asked_again():
    loop = asked_early()
    loop.on_guess(Guess(7, 0.5), 0.0)
    assert loop.next_action(0.0, crowded=True) == Wait()
    loop.on_cloud_token(2, Guess(7, 0.9))
    assert loop.tokens == [DecodedToken(7, "cloud", 0.9, False)]
    assert loop.next_action(0.0) == RunStage(0, guess=False)


@pytest.mark.parametrize("guessed", [7, 8])
def test_an_answer_may_come_before_the_guess(guessed: int):
    loop = asked_early()
    loop.on_cloud_token(2, Guess(7, 0.9))
    assert loop.tokens == []
    loop.on_guess(Guess(guessed, 0.5), 0.0)
    assert loop.tokens == [DecodedToken(7, "cloud", 0.9, False)]
    if guessed != 7:
        assert loop.next_action(0.0) == Rewind(3)
    assert loop.next_action(0.0) == RunStage(0, guess=False)


@pytest.mark.parametrize("lost", [True, False], ids=["cloud lost", "too late"])
def test_a_cloud_that_is_lost_before_the_guess_leaves_the_guess(lost: bool):
    loop = asked_early()
    if lost:
        loop.on_cloud_unavailable()
    else:
        loop.on_too_late((Want(2),))
    loop.on_guess(Guess(7, 0.5), 0.0)
    assert loop.tokens == [DecodedToken(7, "edge-2", 0.5, True)]


def asked_unguessed(**wishes) -> DecodeLoop:
    """A loop that waits for the cloud, whose last exit was not asked what it thinks."""
    loop = make_loop(thresholds=(0.8, 1.0), **wishes)
    loop.on_guess(Guess(7, 0.5), 0.0)
    assert loop.next_action(0.0) == RunStage(1, guess=False)
    loop.on_guess(None, 0.0)
    assert loop.next_action(0.0) == AskCloud((Want(2),))
    assert loop.next_action(0.0) == Wait()
    return loop


@pytest.mark.parametrize("use", ["unsure", "always"])
def test_an_exit_that_cannot_be_sure_does_not_guess_where_every_answer_is_waited_for(use: Use):
    loop = make_loop(thresholds=(1.0, 1.0), use_cloud=use)
    assert loop.next_action(0.0) == RunStage(0, guess=False)
    loop.on_guess(None, 0.0)
    assert loop.next_action(0.0) == RunStage(1, guess=False)


def test_an_answer_that_was_not_guessed_is_the_token_and_nothing_is_rewound():
    loop = asked_unguessed()
    loop.on_cloud_token(2, Guess(9, 0.7))
    assert loop.tokens == [DecodedToken(9, "cloud", 0.7, False)]
    assert loop.next_action(0.0) == RunStage(0)
    assert loop.text(0) == [9]
    assert loop.discarded == 0


def test_the_guess_is_made_late_where_the_cloud_does_not_answer():
    loop = asked_unguessed()
    loop.on_cloud_unavailable()
    assert loop.next_action(0.0) == RunStage(1)
    loop.on_guess(Guess(8, 0.6), 0.0)
    assert loop.tokens == [DecodedToken(8, "edge-2", 0.6, True)]
    assert loop.next_action(0.0) == RunStage(0)


def test_an_answer_that_comes_while_the_late_guess_is_made_is_too_late():
    loop = asked_unguessed()
    loop.on_cloud_unavailable()
    loop.next_action(0.0)
    loop.on_cloud_token(2, Guess(9, 0.7))
    loop.on_guess(Guess(8, 0.6), 0.0)
    loop.on_cloud_token(2, Guess(9, 0.7))
    assert loop.tokens == [DecodedToken(8, "edge-2", 0.6, True)]


def test_the_wait_for_a_cloud_that_does_not_answer_is_no_draft_time():
    loop = asked_unguessed()
    loop.on_cloud_unavailable()
    loop.next_action(60.0)
    loop.on_guess(Guess(8, 0.6), 60.0)
    assert loop.lookahead.draft_time.mean_s == 0.0


def test_reading_the_prompt_is_no_draft_time_whichever_stage_reads_it_and_when():
    """Of a long prompt that took seconds, and the window stayed shut for many tokens."""
    loop = make_loop(lookahead=4)
    assert loop.next_action(0.0) == RunStage(0)
    loop.on_guess(Guess(7, 0.9), 60.0)  # the first stage has read it
    assert loop.next_action(60.0) == RunStage(0)
    loop.on_guess(Guess(7, 0.5), 60.1)
    assert loop.next_action(60.1) == RunStage(1)
    loop.on_guess(Guess(7, 0.9), 120.0)  # and now the second one
    assert loop.lookahead.draft_time.mean_s == 0.0
    loop.next_action(120.0)
    loop.on_guess(Guess(7, 0.5), 120.1)
    loop.next_action(120.1)
    loop.on_guess(Guess(7, 0.9), 120.3)
    assert loop.lookahead.draft_time.mean_s == pytest.approx(0.3)


def test_a_stop_token_that_was_not_guessed_ends_the_answer():
    loop = asked_unguessed()
    loop.on_cloud_token(2, Guess(STOP, 0.7))
    assert loop.next_action(0.0) == Finish("stop")
    assert loop.stop == DecodedToken(STOP, "cloud", 0.7, False)


def test_what_follows_an_answer_that_was_not_guessed_is_forced_by_the_grammar():
    loop = constrained((1, 2), (3,), (4, 5), thresholds=(1.0, 1.0))
    for _ in range(2):
        loop.next_action(0.0)
        loop.on_guess(None, 0.0)
    assert loop.next_action(0.0) == AskCloud((Want(2, (1, 2)),))
    loop.on_cloud_token(2, Guess(2, 0.9))
    assert [(token.token, token.rung) for token in loop.tokens] == [(2, "cloud"), (3, "forced")]


def test_an_answer_that_may_not_come_here_has_the_guess_made_late():
    loop = constrained((1, 2), (3, 4), thresholds=(1.0, 1.0))
    for _ in range(2):
        loop.next_action(0.0)
        loop.on_guess(None, 0.0)
    loop.next_action(0.0)
    loop.on_cloud_token(2, Guess(7, 1.0))
    assert loop.next_action(0.0) == RunStage(1, (1, 2))
    loop.on_guess(Guess(2, 0.1), 0.0)
    (token,) = loop.tokens
    assert (token.token, token.degraded) == (2, True)


def test_where_the_edge_alone_answers_nothing_is_asked_early():
    loop = make_loop(thresholds=(1.0, 1.0), use_cloud="never")
    loop.next_action(0.0)
    loop.on_guess(None, 0.0)
    assert loop.next_action(0.0) == RunStage(1)
