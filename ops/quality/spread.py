"""What is kept of a row of logits: every confidence at every temperature that may be asked for later.

A calibration tries many temperatures, measures and thresholds on the same rows. Keeping the logits of a
large vocabulary would fill the memory, running the model again would take hours; a few numbers suffice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from shared.model.confidence import Measure

Floats = npt.NDArray[np.float32]

MEASURES: Final[tuple[Measure, ...]] = get_args(Measure)
# Six steps to a factor of two: finer ones change no order of confidences that thresholds could tell.
TEMPERATURES: Final = tuple(round(2.0 ** (step / 6), 6) for step in range(-12, 19))
_SCALES: Final = np.array(TEMPERATURES, dtype=np.float32)[:, None]


class Spread(NamedTuple):
    """A row of logits, summed up.

    Attributes:
        token: the most probable of the allowed ids.
        confidences: (measures, temperatures).
        log_probabilities: (temperatures,), of the token that was asked about.
    """

    token: int
    confidences: Floats
    log_probabilities: Floats


def best_token(logits: Floats, allowed: Sequence[int] | None) -> int:
    """The most probable id of (vocab,) logits among `allowed`; None: all."""
    if allowed is None:
        return int(logits.argmax())
    return int(allowed[int(logits[np.asarray(allowed)].argmax())])


def spread(logits: Floats, allowed: Sequence[int] | None, asked: int) -> Spread:
    """Sum up a row, as `shared.model.sampling.draw` would see it.

    Args:
        logits: (vocab,).
        allowed: the only ids that may come, ascending; None: all.
        asked: an allowed id whose probability is wanted.
    """
    ids = np.arange(len(logits)) if allowed is None else np.asarray(allowed)
    kept = logits[ids]
    scaled = (kept - kept.max()) / _SCALES  # (temperatures, ids)
    weights = np.exp(scaled)
    totals = weights.sum(axis=1)
    confidences = np.stack(
        [1.0 / totals, _margins(kept, totals), _certainties(scaled, weights, totals)]
    ).clip(0.0, 1.0)
    place = int(np.searchsorted(ids, asked))
    return Spread(int(ids[kept.argmax()]), confidences, scaled[:, place] - np.log(totals))


def _margins(kept: Floats, totals: Floats) -> Floats:
    if len(kept) < 2:
        return np.ones_like(totals)
    second, first = np.partition(kept, -2)[-2:]
    margins: Floats = (1.0 - np.exp((second - first) / _SCALES[:, 0])) / totals
    return margins


def _certainties(scaled: Floats, weights: Floats, totals: Floats) -> Floats:
    """One minus the entropy's share of what it could be."""
    if scaled.shape[1] < 2:
        return np.ones_like(totals)
    entropies = np.log(totals) - (weights * scaled).sum(axis=1) / totals
    certainties: Floats = (1.0 - entropies / math.log(scaled.shape[1])).astype(np.float32)
    return certainties
