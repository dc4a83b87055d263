"""What may be sent to this worker: messages and bytes per second. Sans I/O, time passed in.

A token bucket for each: it holds what `BURST_S` seconds allow and fills at the rate. Each edge has its own
two, so that one does not take the others' share, and all edges together have two more. A worker serves one
tenant, so those are the tenant's at this worker; N workers take N times as much.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, NamedTuple

from shared.wire.codec import MAX_MESSAGE_BYTES

# A long prompt goes up in one burst of chunks; two seconds' worth lets it pass unhindered.
BURST_S = 2.0
# Edges that are remembered. One that was forgotten starts with full buckets, so an edge gains by it only
# if so many others came in between.
MAX_EDGES = 1024


class Capped(NamedTuple):
    """Too much: whose, which setting says so, its value, and when there is room again."""

    whose: str
    setting: str
    limit: int
    retry_after_s: float

    def __str__(self) -> str:
        return f"this {self.whose} is over {self.setting} = {self.limit}: ask less often, or raise it"


class Rates(NamedTuple):
    """What an edge, or a tenant, may send in a second: messages, and their payloads."""

    whose: Literal["edge", "tenant"]
    steps_per_s: int
    bytes_per_s: int


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


class Buckets:
    """The two of one edge, or of a tenant."""

    def __init__(self, rates: Rates, now_s: float) -> None:
        self._rates = rates
        self._steps = Bucket(rates.steps_per_s, max(1.0, rates.steps_per_s * BURST_S), now_s)
        # The largest message has to fit, whatever the rate.
        room = max(MAX_MESSAGE_BYTES, rates.bytes_per_s * BURST_S)
        self._load = Bucket(rates.bytes_per_s, room, now_s)

    def capped(self, nbytes: int, now_s: float) -> Capped | None:
        """What keeps a message out; None when there is room."""
        whose, steps_per_s, bytes_per_s = self._rates
        steps_wait_s, load_wait_s = self._steps.wait_s(1, now_s), self._load.wait_s(nbytes, now_s)
        if not steps_wait_s and not load_wait_s:
            return None
        if steps_wait_s >= load_wait_s:
            return Capped(whose, f"worker.steps_per_s_per_{whose}", steps_per_s, steps_wait_s)
        return Capped(whose, f"worker.bytes_per_s_per_{whose}", bytes_per_s, load_wait_s)

    def take(self, nbytes: int) -> None:
        """Count a message in."""
        self._steps.take(1)
        self._load.take(nbytes)


class Quota:
    """The buckets of the tenant, and of its edges, a bounded number of them.

    Args:
        edge: what each edge may send.
        tenant: what all of them together may send.
        max_edges: edges whose buckets are kept; those used longest ago go first.
    """

    def __init__(self, edge: Rates, tenant: Rates, *, max_edges: int = MAX_EDGES) -> None:
        self._edge_rates = edge
        self._tenant_rates = tenant
        self._max_edges = max_edges
        self._tenant: Buckets | None = None  # full from the first message on, whenever that is
        self._edges: OrderedDict[str, Buckets] = OrderedDict()

    def __len__(self) -> int:
        return len(self._edges)

    def take(self, edge: str, nbytes: int, now_s: float) -> Capped | None:
        """Count a message in; None when it may pass. One that may not uses nothing up."""
        self._tenant = self._tenant or Buckets(self._tenant_rates, now_s)
        both = (self._of_edge(edge, now_s), self._tenant)
        for buckets in both:
            capped = buckets.capped(nbytes, now_s)
            if capped is not None:
                return capped
        for buckets in both:
            buckets.take(nbytes)
        return None

    def _of_edge(self, edge: str, now_s: float) -> Buckets:
        found = self._edges.get(edge)
        if found is None:
            found = self._edges[edge] = Buckets(self._edge_rates, now_s)
            if len(self._edges) > self._max_edges:
                self._edges.popitem(last=False)
        self._edges.move_to_end(edge)
        return found
