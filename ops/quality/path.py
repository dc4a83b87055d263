"""From never exiting to always exiting: the order in which thresholds are lowered.

A guarantee is tested along one line of candidates. This chooses the line, on texts of its own: at each
point the exit and the step that save most cloud requests for each token that would change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ops.quality.policy import NEVER

_GRID: Final = 100  # thresholds of an exit: as many shares of its tokens
_DIGITS: Final = 1e6  # thresholds are rounded down to these: what fp32 can tell near 1
# What a deeper edge stage costs, in cloud requests: it decides between lines that ask equally often.
_DEEPER_COST: Final = 0.05
# Candidates closer than this, in requests per token, are tested as one.
_STEP: Final = 0.004
_SMALL: Final = 1e-9

Confidences = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Weights = npt.NDArray[np.float64]


class Point(NamedTuple):
    """One candidate and what it would do to the texts that chose it.

    Attributes:
        thresholds: one for each exit.
        loss: mean share of an answer's tokens that would not be the full model's.
        requests: cloud requests per token.
        cost: the same, with deeper edge stages at their price.
    """

    thresholds: tuple[float, ...]
    loss: float
    requests: float
    cost: float


def threshold_path(confidences: Confidences, right: Flags, weights: Weights, most_loss: float) -> list[Point]:
    """Candidates from the strictest on, up to the first that loses more than `most_loss`.

    Args:
        confidences: (rows, exits).
        right: (rows, exits), whether the exit's guess is the full model's token.
        weights: (rows,), sum to 1.
        most_loss: where the path ends.
    """
    slope = _Slope(confidences, right, weights)
    path = [slope.point(slope.start)]
    for indices in slope.descend():
        point = slope.point(indices)
        if path[-1].cost - point.cost >= _STEP:
            path.append(point)
        if point.loss > most_loss:
            break
    return path


class _Slope:
    """The thresholds that may be chosen, as indices into each exit's grid, and what each choice does."""

    def __init__(self, confidences: Confidences, right: Flags, weights: Weights) -> None:
        self._confidences = confidences
        self._weights = weights
        exits = right.shape[1]
        # One more column: what no exit is sure of is the cloud's, which is right by definition.
        self._wrong = np.concatenate([~right, np.zeros((len(right), 1), dtype=bool)], axis=1)
        self._prices = np.array([_DEEPER_COST * index for index in range(exits)] + [1.0])
        self._grids = [_grid(confidences[:, index]) for index in range(exits)]
        self.start = (0,) * exits

    def point(self, indices: tuple[int, ...]) -> Point:
        thresholds = tuple(grid[index] for grid, index in zip(self._grids, indices, strict=True))
        sure = self._confidences > np.array(thresholds, dtype=np.float32)
        rungs = np.where(sure.any(axis=1), sure.argmax(axis=1), sure.shape[1])
        wrong = self._wrong[np.arange(len(rungs)), rungs]
        asked = float((rungs == sure.shape[1]).mean())
        return Point(thresholds, float(self._weights[wrong].sum()), asked, float(self._prices[rungs].mean()))

    def descend(self) -> Iterator[tuple[int, ...]]:
        """Step after step down, one exit's threshold at a time."""
        here = self.start
        while (best := self._best_jump(here)) is not None:
            exit_index, goal = best
            for index in range(here[exit_index] + 1, goal + 1):
                here = (*here[:exit_index], index, *here[exit_index + 1 :])
                yield here

    def _best_jump(self, here: tuple[int, ...]) -> tuple[int, int] | None:
        """The exit and its new index that save most for each loss; None when nothing saves anything."""
        now = self.point(here)
        best, best_score = None, 0.0
        for exit_index, grid in enumerate(self._grids):
            for index in range(here[exit_index] + 1, len(grid)):
                then = self.point((*here[:exit_index], index, *here[exit_index + 1 :]))
                saved = now.cost - then.cost
                score = saved / (max(0.0, then.loss - now.loss) + _SMALL)
                if saved > 0.0 and score > best_score:
                    best, best_score = (exit_index, index), score
        return best


def _grid(confidences: Confidences) -> list[float]:
    """Thresholds that let through ever larger shares, from none at all on."""
    shares = np.quantile(confidences, np.linspace(1.0, 0.0, _GRID + 1))
    below = {math.floor(float(value) * _DIGITS) / _DIGITS for value in shares}
    return [NEVER, *sorted(below - {NEVER}, reverse=True)]
