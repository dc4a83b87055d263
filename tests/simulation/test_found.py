"""Bugs that storms and state machines have found, each as the smallest story that shows it."""

from __future__ import annotations

import asyncio

from cloud_worker.handover import Handover
from cloud_worker.keeper import Keeper
from cloud_worker.scheduler import Scheduler
from cloud_worker.session import WorkerSession
from cloud_worker.table import SessionTable
from edge_agent.cloud_session import MAX_RESUMES, CloudSession, Phase
from edge_agent.decode import DecodeLoop
from edge_agent.decode_actions import AskCloud, RunStage
from edge_agent.exits import ExitPolicy
from edge_agent.lookahead import Lookahead
from edge_agent.patience import Patience
from edge_agent.rungs import Guess
from edge_agent.session_actions import SendOpen, SendStep
from edge_agent.states import StateLog
from edge_agent.upload import Upload
from edge_agent.want import Want
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
    session.ask([Want(ROWS - 1)], 0.0)
    session.on_message(Opened(1, "w1", 0), 0.0)
    return session


def test_a_worker_that_gets_further_with_each_resume_is_not_left():
    """Loss over a long catch-up: each repair gets some chunks through, and leaving threw them away."""
    session = asking()
    for frontier in range(1, 3 * MAX_RESUMES):
        (step,) = session.on_message(Resume(1, session._upload._number, frontier), 0.0)
        assert isinstance(step, SendStep)
        assert step.message.from_position == frontier


def test_a_worker_that_gets_no_further_is_left():
    session = asking()
    for frontier in [5, 0, 5, 0]:
        session.on_message(Resume(1, session._upload._number, frontier), 0.0)
    (action,) = session.on_message(Resume(1, session._upload._number, 5), 0.0)
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


def upload(rows: int) -> Upload:
    """Of a text of so many positions, in its first epoch."""
    states = StateLog(1)
    states.append(bytes(rows))
    upload = Upload(states, "fp32")
    upload.begin(1)
    upload.open_at(0)
    return upload


def test_old_rows_that_arrive_behind_a_resume_are_not_taken_for_new_ones():
    """The worker stood below what was rewritten, so nothing of it was thought to be old from then on."""
    edge = upload(10)
    edge.steps([], 5)
    (old,) = edge.steps([], 10)  # it dallies
    edge.rewind(7)
    edge.steps([], 8)  # gets there first: a gap at 5
    edge.resume_at(5, taken=1)
    edge.steps([], 9)  # is lost; and now the old one is taken: rows 7, 8 and 9 are of another text
    edge.steps([], 10)  # a gap, at 10
    edge.resume_at(10, taken=old.number)
    assert edge.sent == 7


def test_a_worker_that_lost_the_session_speaks_for_a_log_even_within_an_epoch():
    """Evicted, and seated again by a copy of the open: its log was older than the steps it had answered."""
    edge = upload(10)
    edge.steps([], 10)
    edge.rewind(7)
    edge.steps([], 9)
    (continued,) = edge.steps([], 10)
    assert continued.after == 2
    edge.resume_at(10, taken=0)
    (first,) = edge.steps([], 10)
    assert (first.from_position, first.after) == (7, 0)


def test_a_run_of_steps_builds_on_what_the_worker_said_it_has():
    """Had the session been lost behind that word, nothing would have shown that other rows lie below."""
    edge = upload(10)
    edge.steps([], 10)
    edge.resume_at(8, taken=1)
    first, second = edge.steps([], 9)[0], edge.steps([], 10)[0]
    assert (first.after, second.after) == (1, 2)


def test_an_answer_that_comes_after_the_loop_has_given_up_changes_nothing():
    """The loop had given up what was asked, and an answer that was still on its way broke it."""
    loop = DecodeLoop(1, ExitPolicy((0.8,)), 8, (), "unsure", lookahead=Lookahead(4))
    for token in (5, 6):
        assert isinstance(loop.next_action(0.0), RunStage)
        loop.on_guess(Guess(token, 0.1), 0.0)
        assert isinstance(loop.next_action(0.0), AskCloud)
    loop.on_cloud_unavailable()
    for late in (0, 1):
        loop.on_cloud_token(late, Guess(9, 0.9))
    assert [(token.token, token.degraded) for token in loop.tokens] == [(5, True), (6, True)]


class BusyRunner:
    """An engine that always has something of every session, as with several steps on their way."""

    def at_work(self, address: SessionAddress) -> bool:
        return True

    async def batch_over(self) -> None:
        await asyncio.sleep(0)

    def free(self, addresses: list[SessionAddress]) -> None:
        pass


class Listener:
    """An outbox."""

    def __init__(self) -> None:
        self.told: list[SessionAddress] = []

    def refuse(self, address: SessionAddress, epoch: int, error: Exception) -> None:
        self.told.append(address)


async def test_a_worker_that_leaves_takes_no_more_steps_of_sessions_that_are_never_at_rest():
    """Let go when nothing of it waited: with steps always on their way that was when the time was over."""
    table, outbox = SessionTable(), Listener()
    table.put(WorkerSession(KEY, 1, "fp32", Sampling(), 100, 0.0), 0.0)
    keeper = Keeper(table, Scheduler(), BusyRunner(), WriteBehindLog(MemoryContextStore()))  # type: ignore[arg-type]
    handover = Handover(keeper, outbox, "w1")  # type: ignore[arg-type]
    assert not handover.is_leaving(KEY)
    leaving = asyncio.create_task(handover.run(0.2))
    await asyncio.sleep(0)
    assert handover.is_leaving(KEY)
    assert not handover.is_leaving(SessionAddress("home", "hub", "unknown"))
    assert not await leaving  # this engine never comes to an end
    assert outbox.told == [KEY]
