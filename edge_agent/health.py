"""What state is the link to the cloud in, and may a worker be looked for now? Sans I/O.

    state       it means                              event                 next
    --------    -----------------------------------   -------------------   -------------------------------
    ONLINE      asks are answered, or none was yet    an ask failed         DEGRADED
                                                      nobody took a session DEGRADED
                                                      the pool is deserted  DEGRADED
    DEGRADED    the broker is there, the cloud was    an ask is answered    ONLINE
                silent: after a cool-down one         a worker joined       ONLINE
                session at a time looks for a         a session was taken   DEGRADED, no cool-down
                worker (a probe), and nobody          an ask failed         DEGRADED, twice the cool-down
                waits for it                          nobody took a session DEGRADED, twice the cool-down
    OFFLINE     no connection, or the broker did      a new connection      ONLINE
                not answer when it was probed
    any                                               connection lost       OFFLINE

The signals are asks that went unanswered, the connection, presence, and the answer to a probe of the
broker, which the link sends when an ask failed. An ask whose answer just had too little time is none of
them. A keep-alive alone would let a frozen broker or half a connection pass for tens of seconds.

A probe is made for somebody's answer, and that answer does not wait for it: its tokens are the edge's own
until a worker has taken the session. So a home whose cloud is away waits once, not once in each answer.
The cool-down doubles with each failure. Sessions that have a worker are not held back: their own deadlines
judge it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

FIRST_COOL_DOWN_S = 0.25
MAX_COOL_DOWN_S = 4.0


class LinkState(Enum):
    """How well the cloud can be reached."""

    ONLINE = "online"
    DEGRADED = "degraded"
    OFFLINE = "offline"


@dataclass(slots=True)
class LinkHealth:
    """The state of one edge's link, shared by its sessions."""

    connected: bool = False
    failures: int = 0
    retry_at_s: float = 0.0
    failed_at_s: float = 0.0

    @property
    def state(self) -> LinkState:
        """See the table above."""
        if not self.connected:
            return LinkState.OFFLINE
        return LinkState.DEGRADED if self.failures else LinkState.ONLINE

    def may_open(self, now_s: float) -> bool:
        """Whether a session may look for a worker; after a failure, one at a time may, as a probe."""
        if not self.connected or now_s < self.retry_at_s:
            return False
        if self.failures:
            self.retry_at_s = now_s + self._cool_down_s()
        return True

    def on_connection(self, *, connected: bool) -> None:
        """The broker connection came or went."""
        self.connected = connected
        self.on_success()

    def on_success(self) -> None:
        """The cloud has answered, or a worker joined."""
        self.failures = 0
        self.retry_at_s = 0.0

    def on_taken(self) -> None:
        """A worker took a session. Whether it answers is to be seen; the next may look for one as well."""
        self.retry_at_s = 0.0

    def on_failure(self, now_s: float) -> None:
        """An ask went unanswered, or nobody is there to answer one; many at one moment are one."""
        if self.failures and now_s - self.failed_at_s < FIRST_COOL_DOWN_S:
            return
        self.failed_at_s = now_s
        self.retry_at_s = now_s + self._cool_down_s()
        self.failures = min(self.failures + 1, 16)

    def _cool_down_s(self) -> float:
        return min(MAX_COOL_DOWN_S, FIRST_COOL_DOWN_S * float(2**self.failures))
