"""What exits said along the full model's own texts: what temperatures, thresholds and measures go by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ops.quality.policy import Reading, Trace
from ops.quality.spread import TEMPERATURES
from shared.model.confidence import Measure


@dataclass(frozen=True)
class Evidence:
    """One row for each token that the full model decided.

    Attributes:
        confidences: (rows, exits, measures, temperatures).
        log_probabilities: (rows, exits, temperatures), of the full model's token.
        right: (rows, exits), whether the exit's guess is the full model's token.
        weights: (rows,), so that each answer weighs the same; they sum to 1.
    """

    confidences: npt.NDArray[np.float32]
    log_probabilities: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]
    weights: npt.NDArray[np.float64]

    @classmethod
    def of(cls, traces: Sequence[Trace]) -> Evidence:
        """From the full model's answers."""
        places = [decision.place for trace in traces for decision in trace.decisions]
        sizes = [len(trace.decisions) for trace in traces]
        weights = np.repeat([1.0 / max(1, size) for size in sizes], sizes)
        return cls(
            np.stack([place.confidences for place in places]),
            np.stack([place.log_probabilities for place in places]),
            np.array([[guess == place.full for guess in place.guesses] for place in places]),
            weights / weights.sum(),
        )

    @property
    def exits(self) -> int:
        """How many exits there are."""
        return int(self.right.shape[1])

    def best_temperatures(self) -> tuple[float, ...]:
        """For each exit, the one under which the full model's tokens are least surprising.

        Source: Guo et al., On Calibration of Modern Neural Networks (arXiv 1706.04599), section 4.2.
        """
        best = self.log_probabilities.mean(axis=0, dtype=np.float64).argmax(axis=-1)
        return tuple(TEMPERATURES[index] for index in best)

    def read(self, reading: Reading) -> npt.NDArray[np.float32]:
        """The confidences as one reading sees them, (rows, exits)."""
        columns = [
            self.confidences[:, index, measure, temperature]
            for index, (measure, temperature) in enumerate(reading.indices)
        ]
        return np.stack(columns, axis=1)

    def separation(self, measure: Measure, temperatures: tuple[float, ...]) -> tuple[float, ...]:
        """For each exit, how well a measure tells right guesses from wrong ones (see `auroc`)."""
        seen = self.read(Reading((measure,) * self.exits, temperatures))
        return tuple(auroc(seen[:, index], self.right[:, index]) for index in range(self.exits))


def auroc(scores: npt.NDArray[np.float32], right: npt.NDArray[np.bool_]) -> float:
    """The chance that a right guess scores above a wrong one, ties counting half; 1 without wrong ones."""
    good, bad = int(right.sum()), int((~right).sum())
    if not good or not bad:
        return 1.0
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[places]  # from 1, ties share their mean
    return float((ranks[right].sum() - good * (good + 1) / 2.0) / (good * bad))
