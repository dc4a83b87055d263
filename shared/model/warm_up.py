"""The first forward, before anybody waits for it: weights are read from disk when they are first used."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from shared.model.heads import ExitHead
from shared.model.stage import Segment, Stage


@torch.inference_mode()
def warm_up(stages: Sequence[Stage], heads: Sequence[ExitHead]) -> None:
    """Run one row through every layer and every head, in caches of its own.

    Args:
        stages: consecutive ones; the first may take tokens or states.
        heads: one behind each stage.
    """
    first = stages[0]
    rows = torch.zeros(1, dtype=torch.int64) if first.takes_tokens else torch.ones(1, first.hidden_size)
    for stage, head in zip(stages, heads, strict=True):
        rows = stage.forward(rows, [Segment(stage.new_cache(), 1)])
        head.logits(rows)
