"""The few largest values of a row, kept exactly and apart from the rest.

In large models a handful of dimensions are 10³ to 10⁵ times the typical one (Sun et al., Massive
Activations in Large Language Models, arXiv 2402.17762). With them in a row's scale all else rounds to
nothing, and a rotation before the split would spread them over everything.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from shared.errors import CodecError
from shared.tensors.row_format import Records, Rows

# One in so many, between bounds: that what they cost, six bytes each, stays a few hundredths of the row.
_ONE_IN: Final = 128
_FEWEST: Final = 4
_MOST: Final = 12
_WIDEST: Final = 1 << 16  # what a place's two bytes can tell

Places = npt.NDArray[np.int64]
FieldSpec = tuple[str, str, tuple[int, ...]]


def outlier_count(hidden: int) -> int:
    """How many values of a row are kept apart."""
    return min(hidden, max(_FEWEST, min(_MOST, hidden // _ONE_IN)))


def outlier_fields(hidden: int) -> list[FieldSpec]:
    """Their fields in a record: places, ascending, and values.

    Raises:
        CodecError: rows are too wide for places of two bytes.
    """
    if hidden > _WIDEST:
        msg = f"rows of width {hidden} are wider than {_WIDEST}: use a codec without outliers, such as bf16"
        raise CodecError(msg)
    count = outlier_count(hidden)
    return [("places", "<u2", (count,)), ("outliers", "<f4", (count,))]


def take_out(rows: Rows, records: Records) -> Rows:
    """Write each row's largest values into its record.

    Returns:
        The rows with zeros in their places, `(count, hidden)`.
    """
    places = places_of_largest(rows, records["places"].shape[1])
    flat = in_one_line(places, rows.shape[1])
    records["places"], records["outliers"] = places, rows.take(flat)
    rest = rows.copy()
    rest.put(flat, 0.0)
    return rest


def put_back(rows: Rows, records: Records) -> None:
    """Write each record's largest values into its row.

    Raises:
        CodecError: a place is outside the row, or they are not ascending.
    """
    places = records["places"].astype(np.int64)
    if places.max(initial=0) >= rows.shape[1] or not bool((np.diff(places, axis=1) > 0).all()):
        msg = "states name places of outliers that are outside the row or not ascending"
        raise CodecError(msg)
    rows.put(in_one_line(places, rows.shape[1]), records["outliers"])


def places_of_largest(rows: Rows, count: int) -> Places:
    """Where each row's `count` largest values are, ascending, `(rows, count)`."""
    places: Places = torch.from_numpy(rows).abs().topk(count, dim=1, sorted=False).indices.numpy()
    places.sort(axis=1)
    return places


def in_one_line(places: Places, hidden: int) -> Places:
    """Places in the rows one after another: numpy finds them much faster than by row and column."""
    return places + np.arange(0, len(places) * hidden, hidden)[:, None]
