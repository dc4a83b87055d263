"""Whose rows go first: edges take turns, by the rows that each has had. Sans I/O.

Start-time fair queueing. Rows that have gone are the clock:

    an edge's next run starts at     the clock, or the end of its last run if that is later
    who goes                         whoever starts first
    then                             the clock is that start; the run ends so many rows later

So an edge with one step waits for one run of each other edge at most, however many sessions those have, and
edges that go on waiting get equally many rows, but for a run. Who was away has neither saved nor lost
anything.

Source: Goyal, Vin and Cheng, Start-time Fair Queueing (SIGCOMM 1996). Between clients of a language model,
counting tokens: Sheng et al., Fairness in Serving Large Language Models (OSDI 2024).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from heapq import heapify, heappop, heapreplace

from shared.wire.topics import SessionAddress


class Turns:
    """The clock, and where the last runs of edges end that have had more than their share."""

    def __init__(self) -> None:
        self._clock = 0
        self._ends: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def take(self, addresses: Collection[SessionAddress]) -> Iterator[SessionAddress]:
        """Each of these sessions once, in fair turns of their edges; an edge's own in their order.

        `ran` is to be told of each, if it got anything, before the next one is asked for.
        """
        lines: dict[str, deque[SessionAddress]] = {}
        for address in addresses:
            lines.setdefault(address.edge, deque()).append(address)
        if len(lines) > 1:
            yield from self._in_turn(lines)
        else:
            yield from addresses
        self._ends.clear()  # all have been served, so nobody is owed anything

    def _in_turn(self, lines: Mapping[str, deque[SessionAddress]]) -> Iterator[SessionAddress]:
        self._ends = {edge: end for edge, end in self._ends.items() if end > self._clock}
        heap = [(self._start(edge), place, edge) for place, edge in enumerate(lines)]
        heapify(heap)
        while heap:
            _, place, edge = heap[0]
            yield lines[edge].popleft()
            if lines[edge]:
                heapreplace(heap, (self._start(edge), place, edge))
            else:
                heappop(heap)

    def ran(self, edge: str, rows: int) -> None:
        """An edge had its turn, with so many rows."""
        self._clock = self._start(edge)
        self._ends[edge] = self._clock + rows

    def _start(self, edge: str) -> int:
        return max(self._clock, self._ends.get(edge, 0))
