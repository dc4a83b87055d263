"""What a head learns from: the full model's distribution, or the text itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from ops.tuning.backbone import Backbone, Pass
from ops.tuning.plan import Loss

Goal = Callable[[Tensor], Tensor]
"""Logits (rows, vocab) of a head to its loss, summed over rows."""


def _distill(backbone: Backbone, seen: Pass, rows: slice) -> Goal:
    """Kullback–Leibler divergence from the full model's distribution, at temperature 1."""
    with torch.no_grad():
        full = log_softmax(backbone.final_logits(seen.last[rows]), dim=-1)
    return lambda logits: kl_div(log_softmax(logits, dim=-1), full, reduction="sum", log_target=True)


def _next_token(_backbone: Backbone, seen: Pass, rows: slice) -> Goal:
    """Cross-entropy of the text's next token."""
    targets = seen.targets[rows]
    return lambda logits: cross_entropy(logits, targets, reduction="sum")


GOALS: Final[dict[Loss, Callable[[Backbone, Pass, slice], Goal]]] = {
    "distill": _distill,
    "next-token": _next_token,
}
