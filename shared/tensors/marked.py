"""Narrow rows: even levels, and a level that no value has wherever one of the largest stands.

A largest value costs two bytes so, a bfloat16 and no place, where one of a wide row costs six. The row
takes no more bytes than it would in groups of sixteen; what is saved goes into finer levels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shared.errors import CodecError
from shared.tensors.bit_packing import Numbers, packed, packed_bytes, unpacked
from shared.tensors.floats import bf16_bits, bf16_values
from shared.tensors.grouped import GROUPED
from shared.tensors.outliers import in_one_line, places_of_largest
from shared.tensors.row_format import Records, RowFormat, Rows

_MOST_BITS: Final = 8
_FEWEST: Final = 3  # so many massive values at least cost the others nothing
_BF16_BYTES: Final = 2
_MARK: Final = 0
# Below it, a factor would lose its own digits.
_LEAST_SCALE: Final = np.finfo(np.float32).tiny


def _room(hidden: int) -> int:
    """Bytes for levels and marked values."""
    return GROUPED.layout(hidden).itemsize - _BF16_BYTES


@lru_cache
def _bits(hidden: int) -> int:
    """Of a level: the most that leave room for the fewest marked values."""
    room = _room(hidden) - _FEWEST * _BF16_BYTES
    return max(bits for bits in range(1, _MOST_BITS + 1) if packed_bytes(hidden, bits) <= room)


def _zero(hidden: int) -> int:
    """The level of zero: as many stand below as above it, and the mark below those."""
    return 1 << (_bits(hidden) - 1)


@lru_cache
def _layout(hidden: int) -> np.dtype[Any]:
    levels = packed_bytes(hidden, _bits(hidden))
    marked = min(hidden, (_room(hidden) - levels) // _BF16_BYTES)
    return np.dtype([("scale", "<u2"), ("marked", "<u2", (marked,)), ("levels", "u1", (levels,))])


def _write(rows: Rows, records: Records) -> None:
    hidden = rows.shape[1]
    places = in_one_line(places_of_largest(rows, records["marked"].shape[1]), hidden)
    records["marked"] = bf16_bits(rows.take(places))
    rest = rows.copy()
    rest.put(places, 0.0)
    levels = _levels(rest, records, _zero(hidden))
    levels.put(places, _MARK)
    records["levels"] = packed(levels, _bits(hidden))


def _levels(rest: Rows, records: Records, zero: int) -> Numbers:
    """The nearest levels, by a scale that goes into the records."""
    records["scale"] = bf16_bits(np.maximum(np.abs(rest).max(axis=1) / (zero - 1), _LEAST_SCALE))
    # A scale rounds by one in 256: the largest value is then less than half a level beyond the last.
    rest /= bf16_values(records["scale"])[:, None]
    np.rint(rest, out=rest)
    rest += zero
    return rest.astype(np.uint8)


def _read(records: Records, hidden: int) -> Rows:
    levels = unpacked(records["levels"], hidden, _bits(hidden))
    rows: Rows = levels.astype(np.float32)
    rows -= _zero(hidden)
    rows *= bf16_values(records["scale"])[:, None]
    rows[_marks(levels, records)] = bf16_values(records["marked"]).ravel()
    return rows


def _marks(levels: Numbers, records: Records) -> npt.NDArray[np.bool_]:
    """Where marked values stand, `(count, hidden)`.

    Raises:
        CodecError: a row has more or fewer marks than values for them.
    """
    marks: npt.NDArray[np.bool_] = levels == _MARK
    wanted = records["marked"].shape[1]
    if not bool((marks.sum(axis=1) == wanted).all()):
        msg = f"states mark more or fewer than a row's {wanted} outliers"
        raise CodecError(msg)
    return marks


MARKED: Final = RowFormat(_layout, _write, _read)
