"""A figure that was measured several times."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Self

import msgspec


class Range(msgspec.Struct, frozen=True):
    """The middle of several measurements, and how far they spread."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Of at least one value."""
        return cls(median(values), min(values), max(values))
