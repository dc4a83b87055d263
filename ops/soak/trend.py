"""Does memory grow? The slope of many short series, with an interval that does not promise too much.

Each process is a series of its own: where it starts says nothing about growth. So the slope is one for all
series of a role, and each series has its own level (least squares with a level for each series).

Samples of a process's memory are not independent: what was allocated stays, so each sample is close to the
one before. Taken as independent they would make an interval that is many times too narrow. With the
correlation r of neighbouring residuals, n samples are worth n·(1 - r)/(1 + r) independent ones.

Source: Santer et al., "Statistical significance of trends and trend differences in layer-average
atmospheric temperature time series", JGR 105 (2000), doi:10.1029/1999JD901105.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist, fmean
from typing import Final, NamedTuple

LIMIT_MIB_PER_H: Final = 24.0
"""A leak of a few KiB for each answer is beyond that, a cache that fills and an allocator's moods are not."""

WARM_UP_S: Final = 300.0
"""Until a process has met most sizes of its forwards, and its caches and allocator have come to rest."""

CONFIDENCE: Final = 0.95
_S_PER_H: Final = 3600.0
# With less than that left, Student's t says nothing of use.
_LEAST_FREEDOM: Final = 2.0


class Sample(NamedTuple):
    """The memory of a process at one time."""

    at_s: float
    mib: float


@dataclass(frozen=True, slots=True)
class Slope:
    """Growth of memory.

    Attributes:
        mib_per_h: the estimate.
        low, high: the 95 % interval; None when there are too few independent samples for one.
    """

    mib_per_h: float
    low: float | None
    high: float | None


def slope_of(series: Iterable[Sequence[Sample]]) -> Slope | None:
    """The slope that all series have in common; None when no two samples are of one process.

    Args:
        series: one for each process, in the order of time.
    """
    lines = [_centred(samples) for samples in series if len(samples) > 1]
    squares = sum(at_s * at_s for line in lines for at_s, _ in line)
    if not squares:
        return None
    slope = sum(at_s * mib for line in lines for at_s, mib in line) / squares
    residuals = [[mib - slope * at_s for at_s, mib in line] for line in lines]
    margin = _margin(residuals, squares)
    if margin is None:
        return Slope(slope * _S_PER_H, None, None)
    return Slope(slope * _S_PER_H, (slope - margin) * _S_PER_H, (slope + margin) * _S_PER_H)


def _centred(samples: Sequence[Sample]) -> list[Sample]:
    at_s, mib = fmean(sample.at_s for sample in samples), fmean(sample.mib for sample in samples)
    return [Sample(sample.at_s - at_s, sample.mib - mib) for sample in samples]


def _margin(residuals: Sequence[Sequence[float]], squares: float) -> float | None:
    """Half of the slope's interval, in its own unit; None when it can't be told."""
    error = sum(each * each for line in residuals for each in line)
    independent = sum(map(len, residuals)) * _independence(residuals, error)
    freedom = independent - len(residuals) - 1
    if freedom < _LEAST_FREEDOM:
        return None
    return student_t(freedom) * math.sqrt(error / freedom / squares)


def _independence(residuals: Sequence[Sequence[float]], error: float) -> float:
    """How much of an independent sample each one is worth, at most 1."""
    if not error:
        return 1.0
    neighbours = sum(one * other for line in residuals for one, other in pairwise(line))
    r = max(0.0, neighbours / error)
    return (1.0 - r) / (1.0 + r)


def student_t(freedom: float) -> float:
    """The two-sided 95 % quantile of Student's t, within 1 % from 2 degrees of freedom on.

    Source: Abramowitz and Stegun, formula 26.7.5.
    """
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))
