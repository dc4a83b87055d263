"""Exit heads: from a stage's hidden states to logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class ExitHead:
    """A norm of its own, the LM head, and what the family does to its logits."""

    def __init__(self, norm: nn.Module, lm_head: Tensor, finish: Callable[[Tensor], Tensor] | None) -> None:
        self._norm = norm
        self._lm_head = lm_head  # (vocab, hidden); the edge's heads share one
        self._finish = finish

    @torch.inference_mode()
    def logits(self, rows: Tensor) -> Tensor:
        """Logits for each row.

        Args:
            rows: hidden states as a stage returns them, (rows, hidden).

        Returns:
            (rows, vocab), fp32.
        """
        logits = linear(self._norm(rows), self._lm_head)
        if self._finish is not None:
            logits = self._finish(logits)
        return logits.float()
