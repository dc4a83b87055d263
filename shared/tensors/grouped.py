"""Wide rows in four bits: largest values apart, the rest rotated, in groups with a factor and sixteen levels.

A group's factor is its largest value, in steps of a sixteenth of an octave below the largest that it can
be. What a rotation leaves is nearly Gaussian, so the levels are those with the least error for Gaussian
values divided by the largest of sixteen (Lloyd 1982, Least squares quantization in PCM).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shared.tensors.outliers import outlier_fields, put_back, take_out
from shared.tensors.rotation import rotated
from shared.tensors.row_format import Records, RowFormat, Rows

GROUP: Final = 16
_HALF: Final = GROUP // 2  # a byte holds the levels of two values
_POSITIVE: Final = (0.0528, 0.1593, 0.2688, 0.3839, 0.5075, 0.6436, 0.7984, 0.9816)
LEVELS: Final = np.array([*(-level for level in reversed(_POSITIVE)), *_POSITIVE], dtype=np.float32)

_STEPS_PER_OCTAVE: Final = 16
_FACTORS: Final = np.exp2(-np.arange(256) / _STEPS_PER_OCTAVE).astype(np.float32)
_LEAST_PEAK: Final = 1e-9  # its logarithm is finite, its step beyond the last

# The nearest level by table: a value divided by its factor is at most half a step above 1, so that
# values times `_FINE` stay inside 256 entries.
_FINE: Final = 124.0
_MIDDLE: Final = 128.0
_NEAREST: Final = np.searchsorted(
    (LEVELS[1:] + LEVELS[:-1]) / 2.0, (np.arange(256) + 0.5 - _MIDDLE) / _FINE
).astype(np.uint8)

Bytes = npt.NDArray[np.uint8]


def padded_width(hidden: int) -> int:
    """The hidden size, filled up to whole groups."""
    return -(-hidden // GROUP) * GROUP


@lru_cache
def _layout(hidden: int) -> np.dtype[Any]:
    groups = padded_width(hidden) // GROUP
    return np.dtype(
        [
            ("scale", "<f4"),
            *outlier_fields(hidden),
            ("factors", "u1", (groups,)),
            ("levels", "u1", (_HALF, groups)),
        ]
    )


def _write(rows: Rows, records: Records) -> None:
    rest = take_out(rows, records)
    scale = np.abs(rest).max(axis=1)
    records["scale"] = scale
    rest /= np.where(scale > 0.0, scale, 1.0)[:, None]  # else a row near float32's largest would overflow
    groups = _grouped(rest)
    factors, levels = _quantised(groups, _longest(groups))
    records["factors"] = factors
    records["levels"] = levels[:, :_HALF] | (levels[:, _HALF:] << 4)


def _grouped(rest: Rows) -> Rows:
    """Rotated rows, `(count, GROUP, groups)`: a group is a column, which numpy goes through faster."""
    count, hidden = rest.shape
    width = padded_width(hidden)
    if width != hidden:
        rest = np.pad(rest, ((0, 0), (0, width - hidden)))
    return rotated(rest).reshape(count, GROUP, width // GROUP)


def _longest(groups: Rows) -> float:
    """What no value of a rotated row exceeds whose values were at most 1."""
    return math.sqrt(groups.shape[1] * groups.shape[2])


def _quantised(groups: Rows, longest: float) -> tuple[Bytes, Bytes]:
    """Each group's factor, `(count, groups)`, and each value's level, `(count, GROUP, groups)`."""
    peaks = np.maximum(np.abs(groups).max(axis=1), _LEAST_PEAK)
    octaves = math.log2(longest) - np.log2(peaks)
    factors = np.rint(octaves * _STEPS_PER_OCTAVE).clip(0, 255).astype(np.uint8)
    fine = (_FINE / longest) / _FACTORS[factors]
    fitted = groups * fine[:, None]
    fitted += _MIDDLE
    return factors, _NEAREST.take(fitted.astype(np.uint8))


def _read(records: Records, hidden: int) -> Rows:
    packed = records["levels"]
    levels = LEVELS.take(np.concatenate([packed & 15, packed >> 4], axis=1))  # (count, GROUP, groups)
    levels *= (_FACTORS[records["factors"]] * np.float32(_longest(levels)))[:, None]
    rows: Rows = rotated(levels.reshape(len(records), padded_width(hidden)))[:, :hidden]
    rows = rows.clip(-1.0, 1.0)  # no value of the rest was larger
    rows *= records["scale"][:, None]
    put_back(rows, records)
    return rows


GROUPED: Final = RowFormat(_layout, _write, _read)
