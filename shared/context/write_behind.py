"""Writes sessions' logs behind the replies: generation never waits for the context store.

Problem: a lost or slow store must cost the log, never a token; and one session's trouble no other's log.

    append ─► backlog of the session ─► writer task ─► store
                 │ too many bytes waiting        │ a hole, a stale epoch, refused: this session's log is lost
                 │                               │ no answer: the store is left alone for a while, rows wait
                 └────────► the session is unlogged: its backlog is dropped

An unlogged session goes on as if there were no store; its rows in the store just end earlier, which
every later reader copes with. `LoggedSession` says when it is logged again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import Callable

import structlog

from shared.context.guard import StoreGuard
from shared.context.logged_session import NOWHERE, LoggedSession, State
from shared.context.store import ContextStore, LogRecord, SessionLog, stale_epoch
from shared.errors import (
    AntiphonError,
    ContextGapError,
    ContextTooLongError,
    StaleEpochError,
    StoreError,
    StoreRefusedError,
)
from shared.wire.topics import SessionAddress

_log = structlog.get_logger(__name__)

# A store that needs longer is of no use to a session whose replies take a tenth of that.
CALL_TIMEOUT_S = 2.0
# After a failure nobody tries for this long, so that a lost store costs one wait, not one per session.
PAUSE_S = 1.0


class WriteBehindLog:
    """A bounded backlog in front of a `ContextStore`, written by one task.

    Args:
        store: Where the rows go; closed by `aclose`.
        max_backlog_bytes: Rows of all sessions that may wait; the session that passes it is unlogged.
        max_sessions: Sessions that are logged at once; the longest ago claimed is unlogged first.
        call_timeout_s: Bound of one write, and of a claim with the writes before it.
        pause_s: How long the store is left alone after it failed; what is appended waits meanwhile.
        clock: Seconds that only grow.

    Attributes:
        unlogged_sessions: How often a session lost its log.
    """

    def __init__(
        self,
        store: ContextStore,
        *,
        max_backlog_bytes: int = 32 * 1024 * 1024,
        max_sessions: int = 4096,
        call_timeout_s: float = CALL_TIMEOUT_S,
        pause_s: float = PAUSE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._max_backlog_bytes = max_backlog_bytes
        self._max_sessions = max_sessions
        self._guard = StoreGuard(call_timeout_s=call_timeout_s, pause_s=pause_s, clock=clock)
        self._sessions: OrderedDict[SessionAddress, LoggedSession] = OrderedDict()
        self._work: dict[SessionAddress, None] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._backlog_bytes = 0
        self._done = 0  # what the store did: claims, records, closes
        self._writer: asyncio.Task[None] | None = None
        self.unlogged_sessions = 0

    @property
    def backlog_bytes(self) -> int:
        """Rows that wait to be written."""
        return self._backlog_bytes

    def start(self) -> None:
        """Start the writer; call it inside the running loop."""
        self._writer = asyncio.create_task(self._write_forever(), name="context-writer")

    def is_logged(self, key: SessionAddress) -> bool:
        """Whether the session's rows go to the store, now or when it is back."""
        session = self._sessions.get(key)
        return session is not None and session.state is not State.LOST

    async def claim(self, key: SessionAddress, epoch: int, digest: str) -> SessionLog | None:
        """Take the session over and return its log; what waits of it in this epoch is written first.

        Returns:
            The log, or None when the store is of no use now: the session starts at frontier 0. Its rows
            are written when the store is back, unless it refuses this session.

        Raises:
            StaleEpochError: A newer epoch has the session.
        """
        session = self._taken_over(key, epoch, digest)
        error: StoreError | None = None
        try:
            if not self._guard.is_paused:
                return await self._claimed(key, session)
        except StoreError as failure:
            error = failure
        except StaleEpochError:
            self._discard(key, session)
            raise
        self._take_in(key, session)
        if isinstance(error, StoreRefusedError):
            self._lose(key, session, error)
        return None

    def append(self, key: SessionAddress, epoch: int, record: LogRecord) -> bool:
        """Hand over a record; never waits.

        Returns:
            Whether it was taken: False for a session that is unlogged or of another epoch.
        """
        session = self._sessions.get(key)
        if session is None or session.epoch != epoch or not session.takes(record):
            return False
        if self._backlog_bytes + len(record.states) > self._max_backlog_bytes:
            error = StoreError("the backlog is full: the store is slower than its sessions, or away")
            self._lose(key, session, error, max(0, session.resumable))
            return False
        session.begin()
        if not session.backlog:
            session.waits_since_s = self._guard.now_s()
        session.backlog.append(record)
        self._backlog_bytes += len(record.states)
        self._queue(key)
        return True

    def close(self, key: SessionAddress, epoch: int) -> None:
        """Delete the session's log, behind what is being written; never waits.

        That the session is not logged here is no hindrance: another worker's rows of it may be there, and
        the store keeps a newer epoch's.
        """
        session = self._sessions.get(key)
        if session is None or session.epoch < epoch:
            session = self._stranger(key, epoch)
        if session.epoch == epoch:
            self._drop(session.backlog)
            session.closing, session.waits_since_s = True, self._guard.now_s()
            self._queue(key)

    def forget(self, key: SessionAddress) -> None:
        """Stop logging the session and leave its rows in the store to whoever claims it."""
        session = self._sessions.pop(key, None)
        if session is not None:
            self._drop(session.backlog)

    async def flush(self, key: SessionAddress) -> None:
        """Write what waits of one session now; while the store is away it goes on waiting."""
        if not self._guard.is_paused:
            await self._serve(key)

    def release(self, key: SessionAddress) -> None:
        """Stop logging the session once what waits is written: its rows stay for whoever claims it."""
        session = self._sessions.get(key)
        if session is not None:
            session.leaving = True
            self._queue(key)

    async def aclose(self, timeout_s: float = CALL_TIMEOUT_S) -> None:
        """Write what waits, for `timeout_s` at most, then close the store."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        if self._writer is not None:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer
        await self._store.aclose()

    def _taken_over(self, key: SessionAddress, epoch: int, digest: str) -> LoggedSession:
        """The session as it is in this epoch; what waits of an older epoch is dropped."""
        session = self._sessions.get(key)
        if session is not None and session.epoch > epoch:
            raise stale_epoch(epoch, session.epoch)
        if session is None or session.epoch < epoch:
            self.forget(key)
            session = LoggedSession(epoch)
        session.digest = digest
        session.leaving = False
        session.begin()
        return session

    def _stranger(self, key: SessionAddress, epoch: int) -> LoggedSession:
        """A session that is only to be closed: the first to go, so that no number of them unlogs another."""
        self.forget(key)
        session = self._sessions[key] = LoggedSession(epoch)
        self._sessions.move_to_end(key, last=False)
        self._keep_bounded()
        return session

    async def _claimed(self, key: SessionAddress, session: LoggedSession) -> SessionLog:
        async with self._guard.call(), session.turn:
            try:
                await self._write(key, session)
            except (ContextGapError, ContextTooLongError):
                self._drop(session.backlog)  # the log is only shorter, and the caller is told where it ends
            log = await self._store.claim(key, session.epoch, session.digest)
        session.on_claimed(log.frontier)
        self._done += 1
        self._take_in(key, session)
        return log

    def _take_in(self, key: SessionAddress, session: LoggedSession) -> None:
        newest = self._sessions.get(key, session)
        if newest.epoch > session.epoch:  # claimed while this claim's answer was on its way
            raise stale_epoch(session.epoch, newest.epoch)
        self._sessions[key] = session
        self._sessions.move_to_end(key)
        self._keep_bounded()

    def _keep_bounded(self) -> None:
        while len(self._sessions) > self._max_sessions:
            self.forget(next(iter(self._sessions)))

    async def _write_forever(self) -> None:
        while True:
            await self._wake.wait()
            while self._work:
                await self._guard.pause_over()
                key = next(iter(self._work))
                del self._work[key]
                await self._serve(key)
            self._wake.clear()
            self._idle.set()

    async def _serve(self, key: SessionAddress) -> None:
        session = self._sessions.get(key)
        if session is None:
            return
        try:
            async with session.turn:
                await self._write(key, session)
        except StoreRefusedError as error:
            self._lose(key, session, error)
        except StoreError as error:
            if session.on_away(self._done, self._guard.now_s()):
                self._lose(key, session, error)
            else:
                self._queue(key)  # behind the others
        except AntiphonError as error:
            self._lose(key, session, error, _resumable(session, error))
        except Exception as error:  # noqa: BLE001
            # Whatever a store does to us stays with this session: the writer serves the others.
            _log.exception("context_failed", session=key.session)
            self._lose(key, session, StoreError(f"the context store failed: {type(error).__name__}"))

    async def _write(self, key: SessionAddress, session: LoggedSession) -> None:
        """Write what waits; the caller holds the session's turn."""
        if session.backlog and session.state is State.UNCLAIMED:
            async with self._guard.call():
                log = await self._store.claim(key, session.epoch, session.digest)
            session.on_claimed(log.frontier)
        while session.backlog:
            await self._write_first(key, session)
        if session.closing:
            async with self._guard.call():
                await self._store.close(key, session.epoch)
            session.closing = False
            self._done += 1
            self._discard(key, session)
        if session.leaving:
            self._discard(key, session)

    async def _write_first(self, key: SessionAddress, session: LoggedSession) -> None:
        """Write the record that waits longest; it stays where it is until the store has it."""
        record = session.backlog[0]
        async with self._guard.call():
            frontier = await self._store.append(key, session.epoch, record)
        session.on_written(frontier)
        self._done += 1
        if session.backlog and session.backlog[0] is record:  # else all was dropped meanwhile
            session.backlog.popleft()
            self._backlog_bytes -= len(record.states)

    def _queue(self, key: SessionAddress) -> None:
        self._work[key] = None
        self._idle.clear()
        self._wake.set()

    def _drop(self, backlog: deque[LogRecord]) -> None:
        self._backlog_bytes -= sum(len(record.states) for record in backlog)
        backlog.clear()

    def _discard(self, key: SessionAddress, session: LoggedSession) -> None:
        """Give this session's log up; a newer claim of the same key stays as it is."""
        self._drop(session.backlog)
        if self._sessions.get(key) is session:
            del self._sessions[key]

    def _lose(
        self, key: SessionAddress, session: LoggedSession, error: AntiphonError, resumable: int = NOWHERE
    ) -> None:
        """The session goes on without a log; one that is on its way out is not held any longer."""
        self._drop(session.backlog)
        session.on_lost(resumable)
        if session.closing or session.leaving:
            self._discard(key, session)
        self.unlogged_sessions += 1
        _log.warning(
            "context_unlogged", session=key.session, edge=key.edge, code=error.code, reason=str(error)
        )


def _resumable(session: LoggedSession, error: AntiphonError) -> int:
    """Where a log goes on that the store did not add to."""
    match error:
        case ContextGapError():
            return error.frontier
        case ContextTooLongError():
            return session.resumable
    return NOWHERE
