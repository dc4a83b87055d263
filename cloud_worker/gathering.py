"""Whether the next batch waits a moment for sessions that are about to step again. Sans I/O.

When a forward ends, its sessions' next steps are on their way. A batch that starts with the first of them
leaves the others for the one after, and so it stays: forwards of one row and of all the others in turn, each
nearly as long as one of all rows. A moment's wait brings them together.

It is short against the forward that follows and against one layer of it, is over as soon as all are there,
and is given up for a while where nobody came: edges that are far away, or sure of their next tokens, don't
come back at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from shared.wire.topics import SessionAddress

# What is lost where nobody comes: of the time of a forward, and of one of its layers, the shorter of the two.
SHARE = 0.05
LAYER_SHARE = 1 / 3
# Batches that don't wait after waits in vain: doubled by each, up to this.
MOST_SKIPPED = 64


class Gathering:
    """Who took part in the latest batches, and whether waiting for them pays.

    Args:
        layers: of the worker's stage.
    """

    def __init__(self, layers: int) -> None:
        self._share = min(SHARE, LAYER_SHARE / layers)
        self._latest: frozenset[SessionAddress] = frozenset()
        self._before: frozenset[SessionAddress] = frozenset()
        self._skipping = 0
        self._skipped = 0

    @property
    def expected(self) -> int:
        """How many sessions stepped in the latest two batches."""
        return len(self._latest | self._before)

    def wait_s(self, waiting: int, forward_s: float) -> float:
        """How long to wait for more sessions than the `waiting` ones, before a forward of `forward_s`."""
        if not 0 < waiting < self.expected:
            return 0.0
        if self._skipped < self._skipping:
            self._skipped += 1
            return 0.0
        return self._share * forward_s

    def waited(self, came: int) -> None:
        """A wait is over, in which so many came."""
        self._skipped = 0
        self._skipping = 0 if came else min(MOST_SKIPPED, max(1, 2 * self._skipping))

    def ran(self, addresses: Iterable[SessionAddress]) -> None:
        """A batch of these sessions was run."""
        self._before, self._latest = self._latest, frozenset(addresses)
