"""One session on its way to the store: what waits of it, and whether its log can still be added to. Sans I/O.

    UNCLAIMED   its log is claimed before its next row is written, since the store was away
    LOGGED      what is appended is written
    LOST        rows are missing behind `resumable`: what is appended is not taken

    UNCLAIMED ── claimed ──► LOGGED        both ── a hole, too many rows, refused, ──► LOST
        ▲  ▲                    │                  no answer for long                    │
        │  └──── no answer ─────┘                                                        │
        └─────────── a record that begins at `resumable` or before it, or a claim ───────┘

The store itself has the last word: whatever this end believes, a record that would leave a hole in the log
is refused there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from shared.context.store import LogRecord

# A store that fails over or starts again is back by then; what is older has seldom anybody to read it.
MAX_WAIT_S: Final = 30.0
# No record begins here: only a new claim brings the log back.
NOWHERE: Final = -1


class State(Enum):
    """What becomes of the rows that are appended."""

    UNCLAIMED = "unclaimed"
    LOGGED = "logged"
    LOST = "lost"


@dataclass(slots=True)
class LoggedSession:
    """A session's place in the backlog.

    Attributes:
        epoch: the opening that its rows are of.
        digest: the bundle's; what a claim needs.
        state: see above.
        resumable: where the log ends as far as is known; a lost one goes on from there.
        backlog: records that wait, the first of them perhaps on its way.
        waits_since_s: when the first of what waits began to.
        closing: its rows are to be deleted.
        leaving: not logged any more once what waits is written.
        failed_at: how much the store had done for all when it last failed this one; None: it did not.
        turn: held by whoever writes.
    """

    epoch: int
    digest: str = ""
    state: State = State.UNCLAIMED
    resumable: int = NOWHERE
    backlog: deque[LogRecord] = field(default_factory=deque)
    waits_since_s: float = 0.0
    closing: bool = False
    leaving: bool = False
    failed_at: int | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def takes(self, record: LogRecord) -> bool:
        """Whether a record can be added to the log."""
        if self.closing or self.leaving:
            return False
        return self.state is not State.LOST or record.from_position <= self.resumable

    def begin(self) -> None:
        """Have the log claimed before anything more is written; one that is logged goes on."""
        if self.state is State.LOST:
            self.state = State.UNCLAIMED

    def on_written(self, frontier: int) -> None:
        """A record was written, and the log ends at `frontier`."""
        self.resumable, self.failed_at = frontier, None

    def on_claimed(self, frontier: int) -> None:
        """The log was claimed, and ends at `frontier`."""
        self.resumable = frontier
        if self.state is State.UNCLAIMED:
            self.state = State.LOGGED

    def on_away(self, done: int, now_s: float) -> bool:
        """The store failed; whether there is no use in waiting for it.

        Args:
            done: what the store has done for all sessions, counted. If that grew since it last failed this
                one, then it is not away, and this session is why it fails.
            now_s: the time of `waits_since_s`.
        """
        is_why = self.failed_at is not None and done > self.failed_at
        self.failed_at = done
        self.state = State.UNCLAIMED  # a store that comes back empty knows neither epoch nor bundle
        return is_why or now_s - self.waits_since_s > MAX_WAIT_S

    def on_lost(self, resumable: int) -> None:
        """Rows were not written; the log may go on from `resumable`."""
        self.state, self.resumable, self.failed_at = State.LOST, resumable, None
