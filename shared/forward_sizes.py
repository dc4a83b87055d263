"""How many rows a forward has: 1, 2, 3, 4, 6, 8, 12, 16 … 192, 256, and multiples of 64.

Few sizes, since each costs memory for good (`shared/model/kernels.py`).
"""

from __future__ import annotations

from typing import Final

_EVEN_FROM: Final = 256
_STEP: Final = 64


def filled(rows: int) -> int:
    """The smallest size that holds so many rows: less than half more."""
    if rows > _EVEN_FROM:
        return -(-rows // _STEP) * _STEP
    power = 1 << (rows - 1).bit_length()
    return 3 * power // 4 if rows <= 3 * power // 4 else power


def largest_within(rows: int) -> int:
    """The largest size of at most so many rows, 1 or more."""
    if rows > _EVEN_FROM:
        return rows // _STEP * _STEP
    power = 1 << (rows.bit_length() - 1)
    return 3 * power // 2 if power > 1 and rows >= 3 * power // 2 else power
