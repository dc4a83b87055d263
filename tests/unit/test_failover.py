"""How long one session's edge looks for a worker that answers, with the settings as they are shipped."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest

from edge_agent.cloud_session import MAX_REBUFFS, CloudSession, Phase
from edge_agent.patience import Patience
from edge_agent.service import patience_of
from edge_agent.session_actions import Action, Answered, Failed, NotTaken, SendOpen, SendStep
from edge_agent.states import StateLog
from edge_agent.want import Want
from shared.config import EdgeSection, WorkerSection
from shared.wire.messages import Busy, DrawnToken, Opened, Refused, Sampling, ToEdge, Tokens

ROW_BYTES = 16
POSITIONS = 200
SETTLED = 16
"""Replies after which the link's reply time is known well."""
FLIPS = 7
"""More opens than fit into a deadline."""


class World:
    """A session and workers that answer one round trip later, or never.

    Args:
        round_trip_s: of every message.
        heard: of each open, whether it reaches a worker that answers; past the last one none does.

    Attributes:
        alive: whether the session's own worker answers.
        opens, steps: how many were sent.
    """

    def __init__(self, round_trip_s: float, heard: Sequence[bool] = (True,) * FLIPS) -> None:
        states = StateLog(ROW_BYTES)
        states.append(bytes(ROW_BYTES * POSITIONS))
        self.session = CloudSession("digest", 100, "fp16", Sampling(), states, Patience())
        self.now_s = 0.0
        self.alive = True
        self.opens = self.steps = 0
        self._round_trip_s = round_trip_s
        self._heard = list(heard)
        self._coming: list[tuple[float, ToEdge]] = []

    def ask(self, position: int) -> Action:
        """Ask, and let time pass until it is answered or has failed."""
        done = self._note(self.session.ask([Want(position)], self.now_s))
        while done is None:
            done = self._step()
        return done

    def search(self) -> Action | None:
        """Look for a worker that nothing is wanted of, until there is one or none."""
        done = self._note(self.session.open(self.now_s))
        while done is None and self.session.phase is Phase.OPENING:
            done = self._step()
        return done

    def _step(self) -> Action | None:
        arrival_s, message = min(self._coming, key=lambda each: each[0], default=(float("inf"), None))
        deadline_s = self.session.deadline_s
        assert deadline_s is not None
        if message is None or deadline_s < arrival_s:
            self.now_s = deadline_s
            return self._note(self.session.on_deadline(deadline_s))
        self._coming.remove((arrival_s, message))
        self.now_s = arrival_s
        return self._note(self.session.on_message(message, arrival_s))

    def _note(self, actions: Sequence[Action]) -> Action | None:
        for action in actions:
            match action:
                case SendOpen(message):
                    self.opens += 1
                    if self._heard and self._heard.pop(0):
                        self._reply(Opened(message.epoch, "w", 0))
                        self.alive = True
                case SendStep(_, step):
                    self.steps += 1
                    if self.alive and step.wants:
                        drawn = [DrawnToken(each, 42, 0.5) for each in step.wants]
                        self._reply(Tokens(step.epoch, step.number, drawn))
                case _:
                    return action
        return None

    def _reply(self, message: ToEdge) -> None:
        self._coming.append((self.now_s + self._round_trip_s, message))


def test_the_shipped_settings_are_the_default_patience():
    assert patience_of(EdgeSection()) == Patience()


def test_a_step_may_take_longer_than_the_queue_that_a_worker_may_have():
    assert EdgeSection().step_deadline_s > WorkerSection().max_queue_ms / 1e3


@pytest.mark.parametrize("round_trip_s", [0.002, 0.02, 0.1])
def test_one_silent_worker_of_two_degrades_at_most_one_ask_in_a_hundred(round_trip_s: float):
    """The session's worker falls silent, and the pool goes on dealing it every second open."""
    degraded = 0
    for heard in product([True, False], repeat=FLIPS):
        world = World(round_trip_s, [True, *heard])
        for position in range(SETTLED):
            assert isinstance(world.ask(position), Answered)
        world.alive, asked_s = False, world.now_s
        degraded += isinstance(world.ask(SETTLED), Failed)
        assert world.now_s - asked_s < 3.5
        assert world.opens <= 1 + FLIPS
    assert degraded / 2**FLIPS <= 0.01


@pytest.mark.parametrize("round_trip_s", [0.3, 0.36])
def test_a_round_trip_of_300_ms_is_no_reason_to_open_twice_or_to_send_a_step_again(round_trip_s: float):
    world = World(round_trip_s)
    for position in range(SETTLED):
        assert isinstance(world.ask(position), Answered)
    assert (world.opens, world.steps) == (1, SETTLED)


@pytest.mark.parametrize("round_trip_s", [0.4, 0.6, 0.9])
def test_a_link_slower_than_the_opens_deadline_is_learned_and_used(round_trip_s: float):
    """Each open would else be followed by a newer one before its answer comes, for ever."""
    world = World(round_trip_s)
    for position in range(SETTLED):
        assert isinstance(world.ask(position), Answered)
    assert world.opens <= 4
    assert world.steps <= SETTLED + 2


def test_a_long_prompt_has_more_time_before_its_worker_is_left():
    session = World(0.0).session
    session.ask([Want(POSITIONS - 1)], 0.0)
    session.on_message(Opened(1, "w", 0), 0.0)
    while session.epoch == 1:
        assert session.deadline_s is not None
        left_s = session.deadline_s
        session.on_deadline(left_s)
    assert left_s == pytest.approx(0.6 * (1 + POSITIONS / 128))


def test_a_silent_worker_is_not_flooded_with_one_step():
    world = World(0.02, [True])
    for position in range(SETTLED):
        world.ask(position)
    before, world.alive = world.steps, False
    assert isinstance(world.ask(SETTLED), Failed)
    assert world.steps - before <= 5


def test_an_ask_that_failed_by_time_tells_what_went_wrong_last():
    failed = World(0.02, []).ask(0)
    assert isinstance(failed, Failed)
    assert failed.reason == "the cloud did not answer within 3 s: no worker took the session in time"


def test_a_pool_that_says_no_again_and_again_is_believed_with_its_words():
    session = World(0.0).session
    session.ask([Want(0)], 0.0)
    for _ in range(MAX_REBUFFS - 1):
        (action,) = session.on_message(Refused(session.epoch, "quota", "too many", retryable=True), 0.1)
        assert isinstance(action, SendOpen)
    (failed,) = session.on_message(Refused(session.epoch, "quota", "too many", retryable=True), 0.2)
    assert failed == Failed("too many")


def test_a_worker_that_takes_a_session_and_does_not_keep_it_is_asked_less_often_but_not_given_up():
    session = World(0.0).session
    session.ask([Want(0)], 0.0)
    for tried in range(1, MAX_REBUFFS):
        session.on_message(Opened(session.epoch, "w", 0), 0.1)
        (action,) = session.on_message(Refused(session.epoch, "session", "gone", retryable=True), 0.1)
        assert isinstance(action, SendOpen)
        assert session.epoch == tried + 1
    session.on_message(Opened(session.epoch, "w", 0), 0.1)
    refused = Refused(session.epoch, "session", "gone", retryable=True)
    assert session.on_message(refused, 0.1) == []
    assert session.on_message(refused, 0.1) == []  # a duplicate is no answer to an open
    assert session.deadline_s == pytest.approx(0.1 + Patience().open_deadline_s)
    assert isinstance(session.on_deadline(session.deadline_s)[0], SendOpen)


def test_a_busy_pool_is_waited_for_as_long_as_a_token_may_take():
    session = World(0.0).session
    session.ask([Want(0)], 0.0)
    now_s = 0.0
    while now_s < 2.5:
        assert session.on_message(Busy(session.epoch, 0.1), now_s) == []
        assert session.deadline_s is not None
        now_s = session.deadline_s
        assert isinstance(session.on_deadline(now_s)[0], SendOpen)


def test_a_search_that_nothing_waits_for_ends_with_the_same_patience():
    world = World(0.02, [])
    assert isinstance(world.search(), NotTaken)
    assert world.now_s == pytest.approx(Patience().deadline_s)
    assert world.session.phase is Phase.CLOSED


def test_a_search_that_finds_a_worker_says_nothing():
    world = World(0.02)
    assert world.search() is None
    assert world.session.phase is Phase.OPEN
