"""Writes sessions' logs behind the replies: generation never waits for the context store.

Problem: a lost or slow store must cost the log, never a token.

    append ─► backlog of the session ─► writer task ─► store
                 │ too many bytes waiting        │ store fails, too slow, gap, stale epoch
                 └────────► the session is unlogged: its backlog is dropped ◄┘

An unlogged session goes on as if there were no store; its rows in the store just end earlier, which
every later reader copes with. The next `claim` makes it a logged session again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import structlog

from shared.context.store import ContextStore, LogRecord, SessionLog, stale_epoch
from shared.errors import AntiphonError, ContextGapError, ContextTooLongError, StaleEpochError, StoreError
from shared.wire.topics import SessionAddress

_log = structlog.get_logger(__name__)

# A store that needs longer is of no use to a session whose replies take a tenth of that.
CALL_TIMEOUT_S = 2.0
# After a failure nobody tries for this long, so that a lost store costs one wait, not one per session.
PAUSE_S = 1.0
_PAUSED = StoreError("the context store failed a moment ago")


@dataclass(slots=True)
class _Session:
    epoch: int
    backlog: deque[LogRecord] = field(default_factory=deque)
    closing: bool = False
    leaving: bool = False  # not logged any more once what waits is written
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class WriteBehindLog:
    """A bounded backlog in front of a `ContextStore`, written by one task.

    Args:
        store: Where the rows go; closed by `aclose`.
        max_backlog_bytes: Rows of all sessions that may wait; the session that passes it is unlogged.
        max_sessions: Sessions that are logged at once; the longest ago claimed is unlogged first.
        call_timeout_s: Bound of one write, and of a claim with the writes before it.
        pause_s: How long the store is left alone after it failed.
        clock: Seconds that only grow.

    Attributes:
        unlogged_sessions: Sessions that the store failed, claims that found it away included.
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
        self._call_timeout_s = call_timeout_s
        self._pause_s = pause_s
        self._clock = clock
        self._sessions: OrderedDict[SessionAddress, _Session] = OrderedDict()
        self._work: dict[SessionAddress, None] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._paused_until_s = float("-inf")
        self._backlog_bytes = 0
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
        """Whether the session's rows still go to the store."""
        return key in self._sessions

    async def claim(self, key: SessionAddress, epoch: int, digest: str) -> SessionLog | None:
        """Take the session over and return its log; what waits of it in this epoch is written first.

        Returns:
            The log, or None when the store is of no use now: the session is unlogged and starts at
            frontier 0.

        Raises:
            StaleEpochError: A newer epoch has the session.
        """
        session = self._taken_over(key, epoch)
        if self._is_paused():
            self._unlog(key, session, _PAUSED)
            return None
        try:
            return await self._claimed(key, session, digest)
        except StoreError as error:
            self._unlog(key, session, error)
            return None
        except StaleEpochError:
            self._discard(key, session)
            raise

    def append(self, key: SessionAddress, epoch: int, record: LogRecord) -> bool:
        """Hand over a record; never waits.

        Returns:
            Whether it was taken: False for a session that is unlogged or of another epoch.
        """
        session = self._sessions.get(key)
        if session is None or session.epoch != epoch or session.closing or session.leaving:
            return False
        if self._backlog_bytes + len(record.states) > self._max_backlog_bytes:
            self._unlog(
                key, session, StoreError("the backlog is full: the store is slower than its sessions")
            )
            return False
        session.backlog.append(record)
        self._backlog_bytes += len(record.states)
        self._queue(key)
        return True

    def close(self, key: SessionAddress, epoch: int) -> None:
        """Delete the session's log, behind what is being written; never waits."""
        session = self._sessions.get(key)
        if session is not None and session.epoch == epoch:
            self._drop(session.backlog)
            session.closing = True
            self._queue(key)

    def forget(self, key: SessionAddress) -> None:
        """Stop logging the session and leave its rows in the store to whoever claims it."""
        session = self._sessions.pop(key, None)
        if session is not None:
            self._drop(session.backlog)

    async def flush(self, key: SessionAddress) -> None:
        """Write what waits of one session now; a store that fails costs the session's log, as ever."""
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

    def _taken_over(self, key: SessionAddress, epoch: int) -> _Session:
        """The session as it is in this epoch; what waits of an older epoch is dropped."""
        session = self._sessions.get(key)
        if session is not None and session.epoch > epoch:
            raise stale_epoch(epoch, session.epoch)
        if session is None or session.epoch < epoch:
            self.forget(key)
            session = _Session(epoch)
        session.leaving = False
        return session

    async def _claimed(self, key: SessionAddress, session: _Session, digest: str) -> SessionLog:
        async with self._bounded_call(), session.turn:
            try:
                await self._write(key, session)
            except (ContextGapError, ContextTooLongError):
                self._drop(session.backlog)  # the log is only shorter, and the caller is told where it ends
            log = await self._store.claim(key, session.epoch, digest)
        self._take_in(key, session)
        return log

    def _take_in(self, key: SessionAddress, session: _Session) -> None:
        newest = self._sessions.get(key, session)
        if newest.epoch > session.epoch:  # claimed while this claim's answer was on its way
            raise stale_epoch(session.epoch, newest.epoch)
        self._sessions[key] = session
        self._sessions.move_to_end(key)
        while len(self._sessions) > self._max_sessions:
            self.forget(next(iter(self._sessions)))

    async def _write_forever(self) -> None:
        while True:
            await self._wake.wait()
            while self._work:
                key = next(iter(self._work))
                del self._work[key]
                await self._serve(key)
            self._wake.clear()
            self._idle.set()

    async def _serve(self, key: SessionAddress) -> None:
        session = self._sessions.get(key)
        if session is None:
            return
        if self._is_paused():
            self._unlog(key, session, _PAUSED)
            return
        try:
            async with session.turn:
                await self._write(key, session)
        except AntiphonError as error:
            self._unlog(key, session, error)
        except Exception as error:  # noqa: BLE001
            # Whatever a store does to us stays with this session: the writer serves the others.
            _log.exception("context_failed", session=key.session)
            self._unlog(key, session, StoreError(f"the context store failed: {type(error).__name__}"))

    async def _write(self, key: SessionAddress, session: _Session) -> None:
        """Write what waits; the caller holds the session's turn."""
        while session.backlog:
            record = session.backlog.popleft()
            self._backlog_bytes -= len(record.states)
            async with self._bounded_call():
                await self._store.append(key, session.epoch, record)
        if session.leaving:
            self._discard(key, session)
        if session.closing:
            self._discard(key, session)
            session.closing = False
            async with self._bounded_call():
                await self._store.close(key, session.epoch)

    @contextlib.asynccontextmanager
    async def _bounded_call(self) -> AsyncIterator[None]:
        """A store that is too slow or fails is left alone for a while."""
        try:
            async with asyncio.timeout(self._call_timeout_s):
                yield
        except TimeoutError:
            self._paused_until_s = self._clock() + self._pause_s
            raise StoreError(f"the context store did not answer within {self._call_timeout_s} s") from None
        except StoreError:
            self._paused_until_s = self._clock() + self._pause_s
            raise

    def _is_paused(self) -> bool:
        return self._clock() < self._paused_until_s

    def _queue(self, key: SessionAddress) -> None:
        self._work[key] = None
        self._idle.clear()
        self._wake.set()

    def _drop(self, backlog: deque[LogRecord]) -> None:
        self._backlog_bytes -= sum(len(record.states) for record in backlog)
        backlog.clear()

    def _discard(self, key: SessionAddress, session: _Session) -> None:
        """Give this session's log up; a newer claim of the same key stays as it is."""
        self._drop(session.backlog)
        if self._sessions.get(key) is session:
            del self._sessions[key]

    def _unlog(self, key: SessionAddress, session: _Session, error: AntiphonError) -> None:
        self._discard(key, session)
        self.unlogged_sessions += 1
        _log.warning(
            "context_unlogged", session=key.session, edge=key.edge, code=error.code, reason=str(error)
        )
