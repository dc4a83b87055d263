"""How many rows of prompts may share a forward with others' tokens. Sans I/O.

Where anybody decodes, a chunk may take as long as a forward of decoded rows does without it: prefill then at
most doubles the time of a token, whatever the model and the machine. How long that is, is learned from
the forwards themselves, step by step: an estimate from noisy times must not make a chunk of seconds.
"""

from __future__ import annotations

FIRST_ROWS = 64
# Fewer would read all weights for next to nothing.
LEAST_ROWS = 16
# A mask over these and a context of 4,096 is 2 MiB; more rows at once gain nothing.
MOST_ROWS = 512
# After so many forwards without a decoded row nobody is kept waiting.
QUIET_FORWARDS = 64
# What the newest forward counts in a mean over forwards.
_NEWEST = 0.2


class ChunkSize:
    """The limit of the next chunk.

    Attributes:
        decode_s: mean seconds of a forward without chunks; 0 until there was one.
    """

    def __init__(self) -> None:
        self.decode_s = 0.0
        self._rows = FIRST_ROWS
        self._quiet = QUIET_FORWARDS
        self._warm = False

    @property
    def rows(self) -> int:
        """Rows of the next chunk at most."""
        return MOST_ROWS if self._quiet >= QUIET_FORWARDS else self._rows

    def observe(self, decode_rows: int, chunk_rows: int, seconds: float) -> None:
        """A forward of so many rows took so long; the first, in which torch sets itself up, says nothing."""
        self._quiet = 0 if decode_rows else self._quiet + 1
        if not self._warm:
            self._warm = True
        elif not chunk_rows:
            self.decode_s += (seconds - self.decode_s) * (_NEWEST if self.decode_s else 1.0)
        elif self.decode_s and chunk_rows >= LEAST_ROWS:
            self._learn(chunk_rows, seconds)

    def _learn(self, chunk_rows: int, seconds: float) -> None:
        """Go towards the chunk that takes `decode_s`, at most by a factor of two."""
        row_s = (seconds - self.decode_s) / chunk_rows
        wanted = self.decode_s / row_s if row_s > 0 else MOST_ROWS
        wanted = min(2 * self._rows, max(self._rows / 2, wanted))
        self._rows = round(min(MOST_ROWS, max(LEAST_ROWS, wanted)))
