"""Drawing for many rows at once: what a worker's forward wants, over all its sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from shared.model.sampling import Draw, draw
from shared.wire.messages import Sampling


class Wanted(NamedTuple):
    """A token to be drawn.

    Attributes:
        position: of the token (its row's own position + 1).
        allowed: the only ids that it may have; empty: all.
    """

    position: int
    sampling: Sampling
    allowed: tuple[int, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether it is just the most probable token."""
        return self.sampling.temperature == 0.0 and not self.allowed


def draw_rows(logits: Tensor, wanted: Sequence[Wanted]) -> list[Draw]:
    """Draw a token from each row, as `draw` does from one.

    Greedy rows are drawn all at once, where the logits are; the others one by one, on the CPU, where
    sampling's noise comes from.

    Args:
        logits: (rows, vocab) fp32, finite.
        wanted: one for each row.
    """
    plain = [row for row, want in enumerate(wanted) if want.is_plain]
    drawn = dict(zip(plain, _greedy(logits if len(plain) == len(wanted) else logits[plain]), strict=True))
    for row, want in enumerate(wanted):
        if row not in drawn:
            allowed = want.allowed or None
            drawn[row] = draw(logits[row].cpu(), want.sampling, want.position, allowed=allowed)
    return [drawn[row] for row in range(len(wanted))]


def _greedy(logits: Tensor) -> list[Draw]:
    """Of (rows, vocab), maybe no row at all."""
    if not len(logits):
        return []
    tokens = logits.argmax(dim=-1)
    confidences = logits.softmax(dim=-1).amax(dim=-1).clamp(max=1.0)
    pairs = zip(tokens.tolist(), confidences.tolist(), strict=True)
    return [Draw(token, confidence) for token, confidence in pairs]


def all_finite(logits: Tensor) -> bool:
    """Whether a draw from them means anything."""
    return bool(torch.isfinite(logits).all())
