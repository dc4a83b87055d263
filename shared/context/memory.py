"""Context store in this process's memory: the embedded default, and the yardstick of the contract."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from shared.context.store import (
    DEFAULT_TTL_S,
    MAX_SESSION_BYTES,
    LogRecord,
    SessionLog,
    context_gap,
    session_full,
    stale_epoch,
)
from shared.wire.topics import SessionAddress


@dataclass(slots=True)
class _Entry:
    """One session's rows in the order of their positions, without holes."""

    epoch: int
    digest: str | None = None
    expires_s: float = 0.0
    nbytes: int = 0
    records: list[LogRecord] = field(default_factory=list)

    @property
    def frontier(self) -> int:
        return self.records[-1].end_position if self.records else 0

    def holds(self, record: LogRecord) -> bool:
        """Whether this very record is stored; the newest are looked at first."""
        for stored in reversed(self.records):
            if stored.from_position <= record.from_position:
                return stored == record
        return False

    def nbytes_before(self, position: int) -> int:
        """Bytes that `truncate` would leave."""
        kept_bytes = self.nbytes
        for record in reversed(self.records):
            if record.end_position <= position:
                break
            kept_bytes -= record.row_bytes * (record.end_position - max(position, record.from_position))
        return kept_bytes

    def truncate(self, position: int) -> None:
        """Forget the rows from `position` on; the record that spans it is cut."""
        self.nbytes = self.nbytes_before(position)
        while self.records and self.records[-1].end_position > position:
            record = self.records.pop()
            if record.from_position < position:
                self.records.append(record.before(position))

    def append(self, record: LogRecord) -> None:
        self.nbytes += len(record.states)
        self.records.append(record)


class MemoryContextStore:
    """Sessions' logs in a dictionary, bounded in number and bytes; the longest untouched go first.

    Args:
        ttl_s: How long an untouched session is kept.
        max_sessions: Sessions kept at most.
        max_bytes: Rows of all sessions together.
        max_session_bytes: Rows of one session.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        *,
        ttl_s: float = DEFAULT_TTL_S,
        max_sessions: int = 1024,
        max_bytes: int = 256 * 1024 * 1024,
        max_session_bytes: int = MAX_SESSION_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ttl_s = ttl_s
        self._max_sessions = max_sessions
        self._max_bytes = max_bytes
        self._max_session_bytes = min(max_session_bytes, max_bytes)
        self._clock = clock
        self._entries: OrderedDict[SessionAddress, _Entry] = OrderedDict()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all rows held."""
        return self._nbytes

    def __len__(self) -> int:
        return len(self._entries)

    async def claim(self, key: SessionAddress, epoch: int, digest: str) -> SessionLog:
        """See `ContextStore.claim`."""
        entry = self._fenced(key, epoch)
        if entry.digest != digest:
            self._truncate(entry, 0)
            entry.digest = digest
        self._renew(key, entry, epoch)
        return SessionLog(epoch, entry.frontier, tuple(entry.records))

    async def append(self, key: SessionAddress, epoch: int, record: LogRecord) -> int:
        """See `ContextStore.append`."""
        entry = self._fenced(key, epoch)
        if record.from_position > entry.frontier:
            raise context_gap(record.from_position, entry.frontier)
        if not entry.holds(record):
            self._write(entry, record)
        self._renew(key, entry, epoch)
        return entry.frontier

    async def close(self, key: SessionAddress, epoch: int) -> None:
        """See `ContextStore.close`."""
        self._expire()
        entry = self._entries.get(key)
        if entry is not None and entry.epoch <= epoch:
            self._truncate(entry, 0)
            self._renew(key, entry, epoch)

    async def aclose(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._nbytes = 0

    def _fenced(self, key: SessionAddress, epoch: int) -> _Entry:
        """The session's entry, or one that is not kept until it is renewed."""
        self._expire()
        entry = self._entries.get(key) or _Entry(epoch)
        if entry.epoch > epoch:
            raise stale_epoch(epoch, entry.epoch)
        return entry

    def _write(self, entry: _Entry, record: LogRecord) -> None:
        if entry.nbytes_before(record.from_position) + len(record.states) > self._max_session_bytes:
            raise session_full(self._max_session_bytes)
        self._truncate(entry, record.from_position)
        entry.append(record)
        self._nbytes += len(record.states)

    def _truncate(self, entry: _Entry, position: int) -> None:
        self._nbytes -= entry.nbytes
        entry.truncate(position)
        self._nbytes += entry.nbytes

    def _renew(self, key: SessionAddress, entry: _Entry, epoch: int) -> None:
        """Make it `epoch`'s and the last to go; others go when it takes their room."""
        entry.epoch = epoch
        entry.expires_s = self._clock() + self._ttl_s
        self._entries[key] = entry
        self._entries.move_to_end(key)
        while len(self._entries) > self._max_sessions or self._nbytes > self._max_bytes:
            self._drop_oldest()

    def _expire(self) -> None:
        """Entries stand in the order of their last use, which is the order in which they expire."""
        now_s = self._clock()
        while self._entries and next(iter(self._entries.values())).expires_s <= now_s:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, entry = self._entries.popitem(last=False)
        self._nbytes -= entry.nbytes
