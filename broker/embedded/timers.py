"""Deadlines without a clock of their own: whoever runs them passes the time in."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class Timer:
    """One deadline; `cancel` makes it never fire."""

    __slots__ = ("action", "at_s")

    def __init__(self, at_s: float, action: Callable[[float], None]) -> None:
        self.at_s = at_s
        self.action: Callable[[float], None] | None = action

    def cancel(self) -> None:
        """Never fire; cancelling twice, or after it fired, is fine."""
        self.action = None


class Timers:
    """All deadlines of a broker, the earliest first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()

    def at(self, at_s: float, action: Callable[[float], None]) -> Timer:
        """Call ``action(now)`` once `at_s` has come."""
        timer = Timer(at_s, action)
        heapq.heappush(self._heap, (at_s, next(self._order), timer))
        return timer

    def next_at_s(self) -> float | None:
        """When the earliest deadline is due; None when there is none."""
        while self._heap and self._heap[0][2].action is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run(self, now: float) -> None:
        """Fire every deadline that is due."""
        while (due := self.next_at_s()) is not None and due <= now:
            timer = heapq.heappop(self._heap)[2]
            action, timer.action = timer.action, None
            if action is not None:
                action(now)
