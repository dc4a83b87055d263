"""The context store port: what a session's log is and what every adapter promises.

The log is a cache of the edge's truth, so it may be short or empty at any time: a worker tells the
edge where it ends and the edge sends from there. What it may never be is wrong: rows stand at the
position they were computed for, and no writer of an older epoch gets in.

| call   | epoch < stored    | epoch >= stored                                                    |
|--------|-------------------|--------------------------------------------------------------------|
| claim  | `StaleEpochError` | epoch recorded; another bundle's rows are dropped; log returned    |
| append | `StaleEpochError` | past the end: `ContextGapError`; inside: truncated there, appended |
| close  | nothing happens   | rows deleted; the epoch stays as a fence until it expires          |

Every call that succeeds renews the session's time to live.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from shared.errors import CodecError, ContextGapError, ContextTooLongError, StaleEpochError
from shared.wire.topics import SessionAddress

# 4,096 positions of a 4,096 wide model in fp16 are 32 MiB: twice that is not a session of ours.
MAX_SESSION_BYTES = 64 * 1024 * 1024
# Adapters may keep positions in 32 bits; no model reaches a tenth of that.
MAX_POSITION = 2**31 - 1
DEFAULT_TTL_S = 600.0


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One uploaded chunk: `count` rows of equal length for positions from `from_position` on.

    Raises:
        CodecError: The numbers and the bytes don't fit each other.
    """

    from_position: int
    count: int
    codec: str
    states: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.from_position < self.end_position <= MAX_POSITION or len(self.codec) > 32:
            raise CodecError(
                f"a log record can't be of codec {self.codec!r:.40} and positions "
                f"{self.from_position} to {self.end_position}"
            )
        if not self.states or len(self.states) % self.count:
            raise CodecError(
                f"a log record of {self.count} rows from position {self.from_position} can't have "
                f"{len(self.states)} bytes: rows of one codec have one length"
            )

    @property
    def end_position(self) -> int:
        """First position after this record."""
        return self.from_position + self.count

    @property
    def row_bytes(self) -> int:
        """Length of one compressed row."""
        return len(self.states) // self.count

    def before(self, position: int) -> LogRecord:
        """The rows before `position`, which lies inside this record."""
        count = position - self.from_position
        return replace(self, count=count, states=self.states[: count * self.row_bytes])


@dataclass(frozen=True, slots=True)
class SessionLog:
    """What is stored of a session: `records` cover the positions from 0 up to `frontier`."""

    epoch: int
    frontier: int
    records: tuple[LogRecord, ...]


class ContextStore(Protocol):
    """Where sessions' logs are kept; safe to call twice, late and from two workers at once."""

    async def claim(self, key: SessionAddress, epoch: int, digest: str) -> SessionLog:
        """Take the session over in `epoch` and return what is stored of it.

        Args:
            key: The session.
            epoch: The edge's count of openings; it becomes the fence for every later write.
            digest: Bundle digest; rows of another bundle are worthless and are dropped.

        Raises:
            StaleEpochError: A newer epoch has the session (final).
            StoreError: The store can't be reached or can't be used (go on without it).
            StoreRefusedError: It serves others, but not this session.
        """
        ...

    async def append(self, key: SessionAddress, epoch: int, record: LogRecord) -> int:
        """Write `record` at its position and return the new frontier.

        Rows from `record.from_position` on are replaced; a record that is already there, byte for
        byte, changes nothing.

        Raises:
            StaleEpochError: A newer epoch has the session (final).
            ContextGapError: The log ends before `record.from_position`; it names the frontier.
            ContextTooLongError: The session would pass the store's limit; nothing was written.
            StoreError: The store is out of reach or out of memory.
            StoreRefusedError: It serves others, but not this session.
        """
        ...

    async def close(self, key: SessionAddress, epoch: int) -> None:
        """Delete the session's rows, unless a newer epoch has it.

        Raises:
            StoreError: The store can't be reached; the rows go when their time to live ends.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


def stale_epoch(epoch: int, stored: int) -> StaleEpochError:
    """The refusal that every adapter gives to an older epoch."""
    return StaleEpochError(
        f"epoch {epoch} was replaced by epoch {stored}: another worker has this session, drop it here"
    )


def context_gap(from_position: int, frontier: int) -> ContextGapError:
    """The refusal that every adapter gives to a write past the log's end."""
    return ContextGapError(
        f"the log ends at position {frontier}, so rows from {from_position} would leave a hole; "
        f"send from {frontier}",
        frontier,
    )


def session_full(max_session_bytes: int) -> ContextTooLongError:
    """The refusal that every adapter gives to a session that is too long for it."""
    return ContextTooLongError(
        f"the session's log would pass its limit of {max_session_bytes} bytes; "
        "raise max_session_bytes or use a codec with smaller rows"
    )
