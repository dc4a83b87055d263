"""Bugs that storms and state machines have found, each as the smallest story that shows it."""

from __future__ import annotations

import asyncio

from edge_agent.cloud_session import MAX_RESUMES, CloudSession, Patience, Phase, SendOpen, SendStep
from edge_agent.states import StateLog
from shared.context.memory import MemoryContextStore
from shared.context.store import LogRecord
from shared.context.write_behind import WriteBehindLog
from shared.wire.messages import Busy, Opened, Refused, Resume, Sampling
from shared.wire.topics import SessionAddress

ROWS = 40
KEY = SessionAddress("home", "hub", "s")


def asking() -> CloudSession:
    """A session whose steps are on their way to w1."""
    states = StateLog(1)
    states.append(bytes(ROWS))
    session = CloudSession("d", 100, "fp32", Sampling(), states, Patience(0.5, 1.0, 3))
    session.ask(ROWS - 1, 0.0)
    session.on_message(Opened(1, "w1", 0), 0.0)
    return session


def test_a_worker_that_gets_further_with_each_resume_is_not_left():
    """Loss over a long catch-up: each repair gets some chunks through, and leaving threw them away."""
    session = asking()
    for frontier in range(1, 3 * MAX_RESUMES):
        (step,) = session.on_message(Resume(1, session._number, frontier), 0.0)
        assert isinstance(step, SendStep)
        assert step.message.from_position == frontier


def test_a_worker_that_gets_no_further_is_left():
    session = asking()
    for frontier in [5, 0, 5, 0]:
        session.on_message(Resume(1, session._number, frontier), 0.0)
    (action,) = session.on_message(Resume(1, session._number, 5), 0.0)
    assert isinstance(action, SendOpen)


def test_a_worker_that_is_too_busy_for_a_step_is_asked_when_it_said():
    """All attempts were used up within a few round trips, each answered Busy."""
    session = asking()
    assert session.on_message(Busy(1, 0.2), 0.1) == []
    assert session.on_deadline(0.25) == []
    (action,) = session.on_deadline(0.31)
    assert isinstance(action, SendOpen)


def test_a_refused_session_stays_refused_whatever_still_arrives():
    """Two workers had died over its step; a late word gave it a third."""
    session = asking()
    session.on_worker_gone("w1", 0.1, lost=True)
    session.on_message(Opened(2, "w2", 0), 0.2)
    session.on_worker_gone("w2", 0.3, lost=True)
    assert session.phase is Phase.REFUSED
    for late in (Refused(2, "session", "open it again", retryable=True), Busy(2, 0.1)):
        session.on_message(late, 0.4)
        assert session.phase is Phase.REFUSED


async def test_a_released_session_is_written_to_its_end_and_then_not_held():
    """Evicted and expired sessions stayed in the log's table until 4,096 others had come."""
    store = MemoryContextStore()
    log = WriteBehindLog(store)
    log.start()
    await log.claim(KEY, 1, "d")
    log.append(KEY, 1, LogRecord(0, 2, "fp32", b"ab"))
    log.release(KEY)
    assert not log.append(KEY, 1, LogRecord(2, 1, "fp32", b"c"))
    async with asyncio.timeout(5.0):
        await log._idle.wait()
    assert not log.is_logged(KEY)
    assert log.backlog_bytes == 0
    assert (await store.claim(KEY, 2, "d")).frontier == 2
    await log.aclose()


async def test_a_session_that_comes_back_before_it_is_let_go_is_logged():
    log = WriteBehindLog(MemoryContextStore())
    log.start()
    await log.claim(KEY, 1, "d")
    log.release(KEY)
    await log.claim(KEY, 1, "d")
    assert log.append(KEY, 1, LogRecord(0, 1, "fp32", b"a"))
    async with asyncio.timeout(5.0):
        await log._idle.wait()
    assert log.is_logged(KEY)
    await log.aclose()
