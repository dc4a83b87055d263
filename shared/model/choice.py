"""Decisions that hold wherever between their bounds the logits are."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from shared.model.confidence import MAX_PROBABILITY, Measure
from shared.model.logit_bounds import Bounds, Singles
from shared.model.sampling import Draw, confidence_of, gumbel_noise_of
from shared.wire.messages import Sampling

# Roundings of fp32, in units of 2^-24, with room: of a logit over a temperature, of exp where it is not yet
# zero (below e^-104), and of a softmax, whose sum runs in four lanes or more.
_UNIT: Final = 2.0**-24
_EXPONENT_ROUNDINGS: Final = 8
_EXP_ROUNDINGS: Final = 512
_SOFTMAX_ROUNDINGS: Final = 16
_LANES: Final = 4

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def choose(
    bounds: Bounds,
    sampling: Sampling,
    position: int,
    *,
    ids: Ids | None = None,
    temperature: float = 1.0,
    measure: Measure = MAX_PROBABILITY,
    threshold: float | None = None,
) -> Draw | None:
    """The draw that `sampling.draw` makes, if it makes the same one from all logits within the bounds.

    Args:
        bounds: of the tokens that may be drawn.
        sampling: without top-k and top-p, which are decisions of their own.
        position: of the token to be drawn.
        ids: whose the bounds are, ascending; None: the whole vocabulary's.
        temperature: divides the logits before the confidence is taken.
        measure: what the confidence is.
        threshold: what it will be compared with; None: nothing, then it is an estimate.

    Returns:
        None: another token, or the other side of the threshold, is possible.
    """
    choice = _Choice(bounds, temperature)
    index = choice.best()
    if index is None or (threshold is not None and not choice.settles(threshold)):
        return None
    if sampling.temperature > 0.0:
        every = np.arange(len(bounds.logits)) if ids is None else ids
        index = choice.drawn(sampling.temperature, gumbel_noise_of(every, sampling.seed, position))
        if index is None:
            return None
    confidence = confidence_of(torch.from_numpy(bounds.logits), temperature, measure)
    return Draw(index if ids is None else int(ids[index]), confidence)


class _Choice:
    """What follows from bounds, whatever the logits between them are."""

    def __init__(self, bounds: Bounds, temperature: float) -> None:
        self._low, self._high = bounds.low, bounds.high
        self._temperature = temperature

    def best(self) -> int | None:
        """Which token has the largest logit; None: that is not sure."""
        return _leader(self._low, self._high.copy())

    def drawn(self, temperature: float, noise: Floats) -> int | None:
        """Which token has the largest logit over `temperature` plus `noise`; None: that is not sure."""
        best_low = float(self._low.max())
        with np.errstate(over="ignore"):  # a tiny temperature leaves the maximum alone, or nothing sure
            low = (self._low.astype(np.float64) - best_low) / temperature + noise
            high = (self._high.astype(np.float64) - best_low) / temperature + noise
        return _leader(low, high)

    def settles(self, threshold: float) -> bool:
        """Whether every confidence within the bounds is on the same side of `threshold`."""
        top = int(self._low.argmax())
        least = 1.0 / (1.0 + self._others(self._high, float(self._low[top]), top) * (1.0 + self._spare))
        most = 1.0 / (1.0 + self._others(self._low, float(self._high[top]), top) * (1.0 - self._spare))
        rounding = (len(self._low) / _LANES + _SOFTMAX_ROUNDINGS) * _UNIT
        return least * (1.0 - rounding) > threshold or min(1.0, most * (1.0 + rounding)) <= threshold

    def _others(self, logits: Singles, best: float, top: int) -> float:
        """Probabilities of all tokens but the best, as multiples of the best's."""
        nats = (logits - np.float32(best)) / np.float32(self._temperature)
        nats[top] = -np.inf
        return float(np.exp(nats, out=nats).sum(dtype=np.float64))

    @cached_property
    def _spare(self) -> float:
        """Relative error of `_others` in the head's own fp32: of its exponents, and of exp."""
        largest = max(abs(float(self._low.min())), abs(float(self._high.max())))
        return (_EXPONENT_ROUNDINGS * largest / self._temperature + _EXP_ROUNDINGS) * _UNIT


def _leader(low: npt.NDArray[Any], high: npt.NDArray[Any]) -> int | None:
    """The one whose lowest is above all others' highest, if there is one; `high` is spent."""
    best = int(low.argmax())
    high[best] = -np.inf
    return best if low[best] > high.max() else None
