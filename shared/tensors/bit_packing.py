"""Small numbers without the bits between them: eight of b bits are b bytes.

Eight numbers are put into one 64-bit word, of which the low b bytes are kept. Those of a word stand an
eighth of the row apart, so that numpy goes through whole rows of words.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.uint8]

_IN_WORD: Final = 8
_WORD_BYTES: Final = 8


def packed_bytes(width: int, bits: int) -> int:
    """Bytes of `width` numbers of so many bits, filled up to whole words."""
    return _words(width) * bits


def packed(numbers: Numbers, bits: int) -> Numbers:
    """Rows of numbers without gaps.

    Args:
        numbers: `(count, width)`, each below 2 to the power of `bits`.
        bits: of each number, 1 … 8.

    Returns:
        `(count, packed_bytes(width, bits))`.
    """
    count, width = numbers.shape
    filled = np.zeros((count, _IN_WORD * _words(width)), np.uint64)
    filled[:, :width] = numbers
    shifted = filled.reshape(count, _IN_WORD, _words(width)) << _shifts(bits)
    words = np.bitwise_or.reduce(shifted, axis=1).astype("<u8", copy=False)
    kept: Numbers = words.view(np.uint8).reshape(count, _words(width), _WORD_BYTES)[:, :, :bits]
    return kept.reshape(count, packed_bytes(width, bits))


def unpacked(rows: Numbers, width: int, bits: int) -> Numbers:
    """The numbers of `packed` rows, `(count, width)`."""
    count, words = len(rows), _words(width)
    filled = np.zeros((count, words, _WORD_BYTES), np.uint8)
    filled[:, :, :bits] = rows.reshape(count, words, bits)
    shifted = filled.view("<u8").reshape(count, 1, words) >> _shifts(bits)
    numbers: Numbers = shifted.astype(np.uint8) & np.uint8((1 << bits) - 1)
    return numbers.reshape(count, _IN_WORD * words)[:, :width]


def _words(width: int) -> int:
    return -(-width // _IN_WORD)


def _shifts(bits: int) -> npt.NDArray[np.uint64]:
    """How far up each number of a word stands, `(8, 1)`."""
    return np.arange(0, _IN_WORD * bits, bits, dtype=np.uint64)[:, None]
