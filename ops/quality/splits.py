"""Does a promise hold? Calibrated on one half of the texts, looked at on the other, again and again."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ops.quality.calibrate import Promise, certify, check_enough, fit, parts
from ops.quality.forest import Forest, Progress
from ops.quality.risk import most_failures


@dataclass(frozen=True)
class Splits:
    """What came of a promise over random splits.

    Attributes:
        agreement: promised.
        confidence: of the promise.
        realised: on the other half, split by split; a split in which nothing was certified is left out.
        tried: splits in all.
    """

    agreement: float
    confidence: float
    realised: tuple[float, ...]
    tried: int

    @property
    def certified(self) -> int:
        """In how many splits there was a promise to keep."""
        return len(self.realised)

    @property
    def below(self) -> int:
        """In how many splits the agreement fell short."""
        return sum(value < self.agreement for value in self.realised)

    @property
    def promised(self) -> int:
        """In how many it may, on average: the promised share."""
        return int((1.0 - self.confidence) * self.tried + 1e-9)

    @property
    def explained(self) -> int:
        """Up to how many chance explains, at 95 %."""
        return most_failures(self.tried, 1.0 - self.confidence)


def try_splits(
    forest: Forest, promise: Promise, count: int, seed: int, progress: Progress | None = None
) -> Splits:
    """Calibrate for the promise's one agreement on random halves; `progress` counts them.

    Raises:
        ConfigError: half of the texts are too few for the promise.
    """
    (agreement,) = promise.agreements
    indices = range(len(forest.trees))
    check_enough(len(indices) // 2, agreement, promise.confidence)
    realised: list[float] = []
    for split in range(count):
        realised += _realised(forest, promise, indices, seed + split)
        if progress is not None:
            progress(split + 1, count)
    return Splits(agreement, promise.confidence, tuple(realised), count)


def _realised(forest: Forest, promise: Promise, indices: Sequence[int], seed: int) -> Iterator[float]:
    """The agreement on the half that was not calibrated on, if the other half certified anything."""
    shuffled = random.Random(seed).sample(indices, len(indices))  # noqa: S311  not for secrets
    half = len(shuffled) // 2
    tuning, testing = parts(shuffled[:half], seed)
    chosen = fit(forest, tuning, promise)
    for kept in certify(forest, chosen, tuning, testing, promise):
        (traces,) = forest.decode([kept.policy], shuffled[half:])
        yield float(np.mean([trace.agreement for trace in traces]))
