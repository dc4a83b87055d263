"""Rows in eight bits: a factor for each row, and its largest values apart."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np

from shared.tensors.outliers import outlier_fields, put_back, take_out
from shared.tensors.row_format import Records, RowFormat, Rows

_STEPS: Final = 127
# Below it, a factor would lose its own digits.
_LEAST_SCALE: Final = np.finfo(np.float32).tiny


@lru_cache
def _layout(hidden: int) -> np.dtype[Any]:
    return np.dtype([("scale", "<f4"), *outlier_fields(hidden), ("levels", "i1", (hidden,))])


def _write(rows: Rows, records: Records) -> None:
    rest = take_out(rows, records)
    scale = np.maximum(np.abs(rest).max(axis=1) / _STEPS, _LEAST_SCALE)
    records["scale"] = scale
    rest /= scale[:, None]
    np.rint(rest, out=rest)
    records["levels"] = rest


def _read(records: Records, _hidden: int) -> Rows:
    rows: Rows = records["levels"].astype(np.float32)
    rows *= records["scale"][:, None]
    put_back(rows, records)
    return rows


INT8: Final = RowFormat(_layout, _write, _read)
