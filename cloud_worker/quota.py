"""What one edge may send to this worker: messages and bytes per second. Sans I/O, time passed in.

A token bucket for each: it holds what `BURST_S` seconds allow and fills at the rate. A worker serves one
tenant, so what a tenant may do is what the worker itself takes on; edges are what has to be kept apart.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from shared.wire.codec import MAX_MESSAGE_BYTES

# A long prompt goes up in one burst of chunks; two seconds' worth lets it pass unhindered.
BURST_S = 2.0
# Edges that are remembered. One that was forgotten starts with full buckets, so an edge gains by it only
# if so many others came in between.
MAX_EDGES = 1024


class Capped(NamedTuple):
    """Too much: which setting says so, its value, and when there is room again."""

    setting: str
    limit: int
    retry_after_s: float

    def __str__(self) -> str:
        return f"this edge is over {self.setting} = {self.limit}: ask less often, or raise it"


class Bucket:
    """Room that is used up and comes back at a rate.

    Args:
        rate: per second.
        burst: what it holds when full; it starts full.
        now_s: the caller's clock.
    """

    def __init__(self, rate: float, burst: float, now_s: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._filled_s = now_s

    def wait_s(self, amount: float, now_s: float) -> float:
        """How long until `amount` can be taken; 0 when it can now. More than it holds never could."""
        passed_s = max(0.0, now_s - self._filled_s)
        self._level = min(self._burst, self._level + passed_s * self._rate)
        self._filled_s = now_s
        return max(0.0, min(amount, self._burst) - self._level) / self._rate

    def take(self, amount: float) -> None:
        """Use up what `wait_s` said is there."""
        self._level -= amount


class EdgeQuota:
    """The buckets of every edge, a bounded number of them.

    Args:
        steps_per_s: messages of one edge.
        bytes_per_s: their payloads.
        max_edges: buckets that are kept; those used longest ago go first.
    """

    def __init__(self, *, steps_per_s: int, bytes_per_s: int, max_edges: int = MAX_EDGES) -> None:
        self._steps_per_s = steps_per_s
        self._bytes_per_s = bytes_per_s
        self._max_edges = max_edges
        self._edges: OrderedDict[str, tuple[Bucket, Bucket]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._edges)

    def take(self, edge: str, nbytes: int, now_s: float) -> Capped | None:
        """Count a message in; None when it may pass. One that may not uses nothing up."""
        steps, load = self._buckets(edge, now_s)
        steps_wait_s, load_wait_s = steps.wait_s(1, now_s), load.wait_s(nbytes, now_s)
        if steps_wait_s or load_wait_s:
            if steps_wait_s >= load_wait_s:
                return Capped("worker.steps_per_s_per_edge", self._steps_per_s, steps_wait_s)
            return Capped("worker.bytes_per_s_per_edge", self._bytes_per_s, load_wait_s)
        steps.take(1)
        load.take(nbytes)
        return None

    def _buckets(self, edge: str, now_s: float) -> tuple[Bucket, Bucket]:
        found = self._edges.get(edge)
        if found is None:
            # The largest message has to fit, whatever the rate.
            room = max(MAX_MESSAGE_BYTES, self._bytes_per_s * BURST_S)
            steps = Bucket(self._steps_per_s, max(1.0, self._steps_per_s * BURST_S), now_s)
            found = self._edges[edge] = (steps, Bucket(self._bytes_per_s, room, now_s))
            if len(self._edges) > self._max_edges:
                self._edges.popitem(last=False)
        self._edges.move_to_end(edge)
        return found
