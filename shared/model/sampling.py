"""Drawing a token from logits, the same on whichever side it happens.

Randomness is counter-based: the noise of a draw is a function of (seed, position) alone, so a token
drawn again after a lost reply, by another worker or by the edge, is the same token. Adding Gumbel
noise to log-probabilities and taking the maximum draws from the distribution (Gumbel-max trick).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from shared.wire.messages import Sampling

GREEDY = Sampling()


class Draw(NamedTuple):
    """A drawn token and the probability its stage gives to its most probable token."""

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
    words = np.random.Philox(key=seed, counter=[0, 0, 0, position]).random_raw(size)
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # (0, 1), never 0 or 1
    return torch.from_numpy(-np.log(-np.log(uniform)))


def draw(logits: Tensor, sampling: Sampling, position: int, *, confidence_temperature: float = 1.0) -> Draw:
    """Draw the token at `position` from one row of logits.

    Args:
        logits: `(vocab,)` float32.
        sampling: temperature, top-k, top-p and seed.
        position: position of the token to be drawn (the row's own position + 1).
        confidence_temperature: divides the logits before the confidence is taken (calibration).

    Returns:
        The token, and max softmax as confidence, whatever the sampling's own temperature.
    """
    token = int(logits.argmax())
    calibrated = logits / confidence_temperature
    confidence = min(1.0, float(torch.exp(calibrated[token] - torch.logsumexp(calibrated, dim=-1))))
    if sampling.temperature > 0.0:
        # The maximum goes first, so that a tiny temperature overflows to minus infinity alone.
        scores = (logits.double() - logits.max()) / sampling.temperature
        kept = _keep_likely(scores, sampling)
        token = int((kept + gumbel_noise(sampling.seed, position, logits.shape[-1])).argmax())
    return Draw(token, confidence)


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
