"""Token ids to text, piece by piece, without ever showing half a character."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """Detokenises a growing answer.

    Decoding is not additive (spaces and multi-byte characters span tokens), so each piece is the
    difference between two decodings that start at the same, recent token.

    Args:
        decode: ids to text, special tokens left out.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._context = 0  # where both decodings start
        self._shown = 0  # tokens whose text is out

    def add(self, token: int) -> str:
        """The text that `token` completes; empty while a character is unfinished."""
        self._ids.append(token)
        before = self._decode(self._ids[self._context : self._shown])
        now = self._decode(self._ids[self._context :])
        if now.endswith(_UNFINISHED):
            return ""
        self._context, self._shown = self._shown, len(self._ids)
        return now[len(before) :]

    def text(self) -> str:
        """All of it."""
        return self._decode(self._ids)
