"""How fast the engine gets through rows, and so how long a newcomer waits behind a queue. Sans I/O.

A forward takes a while for itself and a little more for each row: seconds = base + per_row · rows, fitted to
the latest forwards by least squares. The two differ much: where weights have to be read from memory, a row
more is nearly free; so rows per second alone would make a worker of small forwards look busy when it is not.
"""

from __future__ import annotations

# What a forward still counts after the next one: about twenty of them make the estimate.
_FADE = 0.95


class Pace:
    """The engine's speed over its latest forwards; unknown until the second one.

    Args:
        batch_tokens: rows of one forward.
    """

    def __init__(self, batch_tokens: int) -> None:
        self._batch_tokens = batch_tokens
        self._warm = False
        # Faded sums over forwards: their number, rows, seconds, rows², rows · seconds.
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)

    def observe(self, rows: int, seconds: float) -> None:
        """A forward of `rows` took `seconds`; the first, in which torch sets itself up, is not counted."""
        if not self._warm:
            self._warm = True
            return
        new = (1.0, rows, seconds, rows * rows, rows * seconds)
        self._sums = tuple(_FADE * old + more for old, more in zip(self._sums, new, strict=True))  # type: ignore[assignment]

    def wait_s(self, rows: int) -> float:
        """How much later the rows of a newcomer are run because `rows` wait before them.

        The forward that they all share would have to be run anyway.
        """
        base_s, per_row_s = self._fit()
        forwards_before = max(0, -(-rows // self._batch_tokens) - 1)
        return forwards_before * base_s + rows * per_row_s

    def _fit(self) -> tuple[float, float]:
        """Seconds of a forward, and of each row in it; neither is below 0."""
        count, rows, seconds, squares, products = self._sums
        if not count:
            return 0.0, 0.0
        spread = squares - rows * rows / count
        # Forwards of one size only say nothing about a row's share.
        per_row_s = max(0.0, (products - rows * seconds / count) / spread) if spread > 1e-6 * squares else 0.0
        base_s = (seconds - per_row_s * rows) / count
        return (base_s, per_row_s) if base_s >= 0.0 else (0.0, seconds / rows)
