"""The session's hidden states as the edge keeps them: encoded once, by position.

The edge owns the truth: whatever a worker or the log has lost is sent again from here.
"""

from __future__ import annotations


class StateLog:
    """Encoded rows of positions 0 … `frontier` - 1, each of `row_bytes` bytes."""

    def __init__(self, row_bytes: int) -> None:
        self.row_bytes = row_bytes
        self._rows = bytearray()

    @property
    def frontier(self) -> int:
        """First position without states."""
        return len(self._rows) // self.row_bytes

    def append(self, encoded: bytes) -> None:
        """Add the rows of the next positions."""
        self._rows += encoded

    def truncate(self, position: int) -> None:
        """Forget `position` and everything after it."""
        del self._rows[position * self.row_bytes :]

    def rows(self, start: int, end: int) -> bytes:
        """The encoded rows of positions `[start, end)`."""
        return bytes(self._rows[start * self.row_bytes : end * self.row_bytes])
