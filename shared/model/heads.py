"""Exit heads: from a stage's hidden states to logits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from shared.model.families import Family
from shared.model.manifest import ExitEntry

Finish = Callable[[Tensor], Tensor]


class ExitParts(nn.Module):
    """What an exit head has of its own; its parameters' names are those in `exits.safetensors`.

    A part that the head's form lacks is None: the form "norm" is `norm` alone. Serving holds the parts
    in the model's dtype, tuning in fp32 with gradients; the mathematics is this one.
    """

    def __init__(self, norm: nn.Module, finish: Finish | None) -> None:
        super().__init__()
        self.norm = norm
        self.mlp: nn.Module | None = None
        self.mlp_norm: nn.Module | None = None
        self.mlp_post_norm: nn.Module | None = None
        self.lora_down: nn.Linear | None = None
        self.lora_up: nn.Linear | None = None
        self.lm_head: nn.Linear | None = None
        self.residual_scale = 1.0
        self._finish = finish

    def forward(self, rows: Tensor, shared: Tensor) -> Tensor:
        """Logits for each row.

        Args:
            rows: hidden states as a stage returns them, (rows, hidden).
            shared: the LM head that is used unless these parts have their own, (vocab, hidden).

        Returns:
            (rows, vocab), after what the family does to its logits.
        """
        normed = self.normed(rows)
        logits = linear(normed, shared) if self.lm_head is None else self.lm_head(normed)
        if self.lora_down is not None and self.lora_up is not None:
            logits = logits + self.lora_up(self.lora_down(normed))
        return self.finished(logits)

    def normed(self, rows: Tensor) -> Tensor:
        """What the LM head multiplies, for each row of (rows, hidden)."""
        normed: Tensor = self.norm(rows if self.mlp is None else rows + self._branch(self.mlp, rows))
        return normed

    def finished(self, logits: Tensor) -> Tensor:
        """Logits after what the family does to them: number by number, and never changing their order."""
        return logits if self._finish is None else self._finish(logits)

    @property
    def is_finishing(self) -> bool:
        """Whether the family does anything to its logits."""
        return self._finish is not None

    def _branch(self, mlp: nn.Module, rows: Tensor) -> Tensor:
        """What the head's MLP adds to (rows, hidden), as a layer of the family would do it."""
        hidden: Tensor = mlp(rows if self.mlp_norm is None else self.mlp_norm(rows))
        if self.mlp_post_norm is not None:
            hidden = self.mlp_post_norm(hidden)
        return hidden * self.residual_scale


def exit_parts(family: Family, config: Any, entry: ExitEntry) -> ExitParts:
    """The modules of a head of the form that `entry` names, on the current default device.

    Their weights are not yet anybody's.
    """
    finish = None if family.logits is None else partial(family.logits, config)
    parts = ExitParts(family.norm(config), finish)
    if entry.head == "mlp":
        _add_mlp(parts, family, config)
    if entry.rank is not None:
        parts.lora_down = nn.Linear(config.hidden_size, entry.rank, bias=False)
        parts.lora_up = nn.Linear(entry.rank, config.vocab_size, bias=False)
    if entry.lm_head == "own":
        parts.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
    return parts


def _add_mlp(parts: ExitParts, family: Family, config: Any) -> None:
    parts.mlp = family.mlp(config)
    if family.mlp_norm is not None:
        parts.mlp_norm = family.norm(config)
    if family.mlp_post_norm is not None:
        parts.mlp_post_norm = family.norm(config)
    if family.residual_scale is not None:
        parts.residual_scale = family.residual_scale(config)


class ExitHead:
    """An exit's parts over the LM head that it shares with others, ready to serve."""

    def __init__(self, parts: ExitParts, lm_head: Tensor) -> None:
        self.parts = parts
        self.lm_head = lm_head  # (vocab, hidden); the edge's heads share one

    @property
    def matrix(self) -> Tensor:
        """The LM head that this exit multiplies by, its own or the shared one: (vocab, hidden)."""
        own = self.parts.lm_head
        return self.lm_head if own is None else own.weight

    @torch.inference_mode()
    def logits(self, rows: Tensor) -> Tensor:
        """Logits for each row.

        Args:
            rows: hidden states as a stage returns them, (rows, hidden).

        Returns:
            (rows, vocab), fp32.
        """
        logits: Tensor = self.parts(rows, self.lm_head)
        return logits.float()
