"""May a worker be looked for now? A circuit breaker over real signals. Sans I/O.

    connected, no recent failure     open
    connected, an ask has failed     don't until the cool-down is over, then one session tries (a probe)
    disconnected                     don't; a new connection clears the record

The cool-down doubles with each failure, so that a home without a working cloud loses little time,
and a success ends it. Sessions that have a worker are not held back: their own deadlines judge it.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_COOL_DOWN_S = 0.25
MAX_COOL_DOWN_S = 5.0


@dataclass(slots=True)
class LinkHealth:
    """The state of one edge's link, shared by its sessions."""

    connected: bool = False
    failures: int = 0
    retry_at_s: float = 0.0

    def may_open(self, now_s: float) -> bool:
        """Whether a session may look for a worker; after a failure, one at a time may."""
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
        """The cloud has answered."""
        self.failures = 0
        self.retry_at_s = 0.0

    def on_failure(self, now_s: float) -> None:
        """An ask went unanswered."""
        self.retry_at_s = now_s + self._cool_down_s()
        self.failures = min(self.failures + 1, 16)

    def _cool_down_s(self) -> float:
        return min(MAX_COOL_DOWN_S, FIRST_COOL_DOWN_S * float(2**self.failures))
