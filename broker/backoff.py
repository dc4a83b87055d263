"""How long to wait before the next attempt: quick at first, then longer, never in step with others."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Jittered waits that double up to a bound.

    The jitter keeps a fleet from coming back all at once after its broker was away.

    Args:
        first_s: the longest first wait; short, because most losses are over at once.
        longest_s: no wait is longer.
        draw: gives numbers in [0, 1).
    """

    def __init__(
        self, first_s: float = 0.05, longest_s: float = 2.0, draw: Callable[[], float] = random.random
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._draw = draw
        self._bound_s = first_s

    def next_s(self) -> float:
        """Seconds to wait now, between half of the present bound and all of it."""
        bound_s = self._bound_s
        self._bound_s = min(2 * bound_s, self._longest_s)
        return bound_s * (0.5 + 0.5 * self._draw())

    def reset(self) -> None:
        """An attempt succeeded: be quick again."""
        self._bound_s = self._first_s
