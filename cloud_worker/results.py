"""What becomes of a work that was run: a reply and a line in the log, or a fault that stays where it is.

| the engine says      | the session                                                               |
|----------------------|---------------------------------------------------------------------------|
| tokens               | is answered, then logged                                                  |
| `ContextGapError`    | sends again from where the cache ends                                     |
| `EvictedError`       | memory is short: idle sessions go, this one opens again, here or elsewhere |
| `EngineError`        | opens elsewhere; this worker leaves                                       |
| another of ours      | is refused: what it sent can't be run                                     |
| anything else        | sends again from its first row, once; then it is refused everywhere       |

The last row is the quarantine. What broke a forward may have been the cache, so the session gets a new
one. If it breaks that too, its states are to blame: its log goes, so that no other worker replays them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog

from cloud_worker.keeper import Keeper
from cloud_worker.outbox import Outbox
from cloud_worker.session import WorkerSession
from cloud_worker.table import CROWDED_S
from cloud_worker.work import Done, Work
from shared.context.store import LogRecord
from shared.errors import AntiphonError, ContextGapError, EngineError, EvictedError, PoisonError
from shared.wire.messages import Busy, Resume, Tokens
from shared.wire.topics import SessionAddress

log = structlog.get_logger(__name__)

# How often a session may break the engine and still be given another chance.
MAX_STRIKES = 1


class Results:
    """Takes the engine's results in, on the event loop.

    Args:
        keeper: what is held of the sessions.
        outbox: the way to their edges.
        kv_budget_bytes: all caches together.
        now_s: the worker's clock.
        on_settled: told of a session whose work was answered.
        on_broken: told that the engine is of no use any more.
    """

    def __init__(
        self,
        keeper: Keeper,
        outbox: Outbox,
        *,
        kv_budget_bytes: int,
        now_s: Callable[[], float],
        on_settled: Callable[[WorkerSession], None],
        on_broken: Callable[[], None],
    ) -> None:
        self._keeper = keeper
        self._outbox = outbox
        self._kv_budget_bytes = kv_budget_bytes
        self._now_s = now_s
        self._on_settled = on_settled
        self._on_broken = on_broken

    def on_done(self, done: Done) -> None:
        """A work was run."""
        session = self._keeper.table.get(done.work.address)
        if session is None:
            self._keeper.runner.free([done.work.address])  # closed or evicted while it ran
        elif done.error is not None:
            self._fault(session, done.work, done.error)
        elif session.epoch == done.work.epoch:  # else it was taken over while it ran
            self._answer(session, done)
            self._on_settled(session)

    def on_kv(self, bytes_of: Mapping[SessionAddress, int]) -> Sequence[SessionAddress]:
        """The caches' sizes after a batch; those that have to go.

        What the batch said is sent first: the next one's forward would hold it up.
        """
        self._outbox.flush()
        evicted = self._keeper.table.over_budget(bytes_of, self._kv_budget_bytes, self._now_s())
        for session in evicted:
            if session.address in self._keeper.scheduler:
                self._outbox.reply(session.address, Busy(session.epoch, CROWDED_S))
            self._keeper.forget(session.address)
        return self._keeper.strangers(bytes_of)

    def _answer(self, session: WorkerSession, done: Done) -> None:
        work = done.work
        if work.wants:
            drawn = list(done.tokens)
            reply = Tokens(
                work.epoch, work.number, drawn, done.compute_us, done.queue_us, done.batch_sessions
            )
            session.remember(reply)
            session.strikes = 0
            self._outbox.reply(work.address, reply)
        if work.number:
            record = LogRecord(work.from_position, work.count, work.codec, work.states)
            self._keeper.log.append(work.address, work.epoch, record)

    def _fault(self, session: WorkerSession, work: Work, error: Exception) -> None:
        match error:
            case ContextGapError():
                self._resume(session, error.frontier)
            case EngineError():
                self._keeper.forget(session.address)
                self._outbox.refuse(session.address, session.epoch, error)
                self._on_broken()
            case EvictedError():
                self._make_room(session, error)
            case AntiphonError():
                if session.epoch == work.epoch:
                    self._fail(session, error)
            case _:
                self._strike(session, error)

    def _resume(self, session: WorkerSession, frontier: int) -> None:
        """The cache ends earlier than was promised: have the edge send from there."""
        dropped = self._keeper.scheduler.drop(session.address)
        ends = [session.frontier, frontier] if dropped is None else [session.frontier, frontier, dropped]
        session.frontier = min(ends)
        if session.last_number:
            newest = session.last_number
            self._outbox.reply(session.address, Resume(session.epoch, newest, session.frontier, newest))

    def _strike(self, session: WorkerSession, error: Exception) -> None:
        session.strikes += 1
        log.warning(
            "forward_broken",
            session=session.address.session,
            strikes=session.strikes,
            reason=repr(error)[:200],
        )
        if session.strikes <= MAX_STRIKES:
            self._resume(session, 0)
            return
        what = type(error).__name__
        self._fail(session, PoisonError(f"this session's states broke the worker's engine twice ({what})"))

    def _fail(self, session: WorkerSession, error: AntiphonError) -> None:
        """Give up a session for good, with the reason; the others don't notice."""
        if error.retryable:
            self._keeper.forget(session.address)
        else:
            self._keeper.erase(session.address, session.epoch)
        self._outbox.refuse(session.address, session.epoch, error)

    def _make_room(self, session: WorkerSession, error: EvictedError) -> None:
        """The machine had no memory for this session's forward."""
        self._keeper.forget(session.address)
        idle = self._keeper.table.evict_idle(self._now_s())
        for address in idle:
            self._keeper.forget(address)
        log.warning("out_of_memory", session=session.address.session, idle_sessions_evicted=len(idle))
        self._outbox.refuse(session.address, session.epoch, error)
