"""Drawing a token from logits, the same on whichever side it happens.

Randomness is counter-based: the noise of a draw is a function of (seed, position) alone, so a token
drawn again after a lost reply, by another worker or by the edge, is the same token. Adding Gumbel
noise to log-probabilities and taking the maximum draws from the distribution (Gumbel-max trick).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shared.model.confidence import MAX_PROBABILITY, Measure
from shared.wire.messages import Sampling

GREEDY = Sampling()


class Draw(NamedTuple):
    """A drawn token and how sure its stage is of its most probable token."""

    token: int
    confidence: float


def gumbel_noise(seed: int, position: int, size: int) -> Tensor:
    """Gumbel(0, 1) noise for the draw of the token at `position`.

    Philox is a counter-based generator whose raw words are the same on every platform.

    Args:
        seed: the session's seed.
        position: position of the token to be drawn.
        size: vocabulary size.

    Returns:
        `(size,)` float64.
    """
    return torch.from_numpy(_gumbel(_words(seed, position, size)))


def gumbel_noise_of(ids: npt.NDArray[np.int64], seed: int, position: int) -> npt.NDArray[np.float64]:
    """The noise of a few tokens in the draw of the token at `position`, as in `gumbel_noise`.

    Args:
        ids: `(tokens,)`, at least one.
        seed: the session's seed.
        position: position of the token to be drawn.

    Returns:
        `(tokens,)` float64.
    """
    # Raw words are cheap, and the first ones don't depend on how many are drawn; logarithms are not.
    return _gumbel(_words(seed, position, int(ids.max()) + 1)[ids])


def _words(seed: int, position: int, size: int) -> npt.NDArray[np.uint64]:
    return np.random.Philox(key=seed, counter=[0, 0, 0, position]).random_raw(size)


def _gumbel(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # (0, 1), never 0 or 1
    noise: npt.NDArray[np.float64] = -np.log(-np.log(uniform))
    return noise


def draw(
    logits: Tensor,
    sampling: Sampling,
    position: int,
    *,
    confidence_temperature: float = 1.0,
    allowed: Sequence[int] | None = None,
    measure: Measure = MAX_PROBABILITY,
) -> Draw:
    """Draw the token at `position` from one row of logits.

    Args:
        logits: `(vocab,)` float32.
        sampling: temperature, top-k, top-p and seed.
        position: position of the token to be drawn (the row's own position + 1).
        confidence_temperature: divides the logits before the confidence is taken (calibration).
        allowed: the only ids that may be drawn, and that the confidence is about; None: all.
        measure: what the confidence is.

    Returns:
        The token and its stage's confidence, whatever the sampling's own temperature.
    """
    possible = logits
    if allowed is not None:
        ids = torch.tensor(allowed)
        possible = logits[ids]
        logits = torch.full_like(logits, -torch.inf).index_copy(0, ids, possible)
    token = int(logits.argmax())
    confidence = confidence_of(possible, confidence_temperature, measure)
    if sampling.temperature > 0.0:
        # The maximum goes first, so that a tiny temperature overflows to minus infinity alone.
        scores = (logits.double() - logits.max()) / sampling.temperature
        kept = _keep_likely(scores, sampling)
        token = int((kept + gumbel_noise(sampling.seed, position, logits.shape[-1])).argmax())
    return Draw(token, confidence)


def confidence_of(logits: Tensor, temperature: float = 1.0, measure: Measure = MAX_PROBABILITY) -> float:
    """How sure a stage is of its most probable token.

    Args:
        logits: of all tokens that may come, `(tokens,)` float32.
        temperature: divides them first (calibration).
        measure: what the confidence is.
    """
    return _CONFIDENCES[measure]((logits / temperature).softmax(dim=-1))


def _max_probability(probabilities: Tensor) -> float:
    return min(1.0, float(probabilities.max()))


def _margin(probabilities: Tensor) -> float:
    if len(probabilities) < 2:
        return 1.0
    first, second = probabilities.topk(2).values
    return max(0.0, min(1.0, float(first - second)))


def _certainty(probabilities: Tensor) -> float:
    """One minus the entropy's share of what it could be."""
    if len(probabilities) < 2:
        return 1.0
    entropy = float(-torch.xlogy(probabilities, probabilities).sum())
    return max(0.0, min(1.0, 1.0 - entropy / math.log(len(probabilities))))


_CONFIDENCES: Final[dict[Measure, Callable[[Tensor], float]]] = {
    "max_probability": _max_probability,
    "margin": _margin,
    "entropy": _certainty,
}


def _keep_likely(scores: Tensor, sampling: Sampling) -> Tensor:
    """`scores` with the tokens outside top-k and top-p at minus infinity."""
    if 0 < sampling.top_k < scores.shape[-1]:
        floor = scores.topk(sampling.top_k).values[-1]
        scores = scores.masked_fill(scores < floor, -torch.inf)
    if sampling.top_p < 1.0:
        ordered, order = scores.sort(descending=True, stable=True)
        probabilities = ordered.softmax(dim=-1)
        # A token goes when those before it already reach top_p; the first always stays.
        gone = probabilities.cumsum(dim=-1) - probabilities >= sampling.top_p
        scores = scores.masked_fill(torch.zeros_like(gone).scatter(0, order, gone), -torch.inf)
    return scores
