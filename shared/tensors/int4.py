"""Rows in four bits a value or, where they are narrow, in finer levels and no more bytes.

Exact outliers and groups' factors are a sixth of a row of width 2048, but half of one of width 64; and noise
counts more there, where fewer values average it away.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from shared.tensors.grouped import GROUPED
from shared.tensors.marked import MARKED
from shared.tensors.row_format import Records, RowFormat, Rows

# In wider rows five bits leave room for too few outliers, and four are better in groups.
WIDEST_MARKED: Final = 256


def _format(hidden: int) -> RowFormat:
    return MARKED if hidden <= WIDEST_MARKED else GROUPED


def _layout(hidden: int) -> np.dtype[Any]:
    return _format(hidden).layout(hidden)


def _write(rows: Rows, records: Records) -> None:
    _format(rows.shape[1]).write(rows, records)


def _read(records: Records, hidden: int) -> Rows:
    return _format(hidden).read(records, hidden)


INT4: Final = RowFormat(_layout, _write, _read)
