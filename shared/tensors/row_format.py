"""How one row of hidden states is laid out: a record of named fields, little-endian, without padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
"""`(count, hidden)`, finite on its way in."""

Records = npt.NDArray[Any]
"""`(count,)` of a structured dtype."""


class RowFormat(NamedTuple):
    """A row's fields, and the two ways between them and its values.

    Attributes:
        layout: hidden size → the record.
        write: rows into records that are there; each row by itself.
        read: records that a peer sent, and the hidden size, to rows. Whether they are finite is the
            caller's to check.
    """

    layout: Callable[[int], np.dtype[Any]]
    write: Callable[[Rows, Records], None]
    read: Callable[[Records, int], Rows]
