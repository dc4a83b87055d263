"""Exit heads of every kind over random matrices, and rows about which they are sure or unsure."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from shared.model.heads import ExitHead, ExitParts


def cap(logits: Tensor) -> Tensor:
    """As gemma2 bounds its logits."""
    return torch.tanh(logits / 30.0) * 30.0


def scale_down(logits: Tensor) -> Tensor:
    """As granite divides its logits."""
    return logits / 4.0


def exit_head(
    vocab: int,
    hidden: int,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    finish: Callable[[Tensor], Tensor] | None = None,
    rank: int | None = None,
    own: bool = False,
) -> ExitHead:
    """A head whose rows differ in length, as those of frequent and rare tokens do; logits are a few nats."""
    torch.manual_seed(seed)
    matrix = torch.randn(vocab, hidden) * torch.empty(vocab, 1).uniform_(1.0, 3.0) / hidden**0.5
    parts = ExitParts(nn.RMSNorm(hidden, dtype=dtype), finish)
    if rank is not None:
        parts.lora_down = nn.Linear(hidden, rank, bias=False, dtype=dtype)
        parts.lora_up = nn.Linear(rank, vocab, bias=False, dtype=dtype)
    if own:
        parts.lm_head = nn.Linear(hidden, vocab, bias=False, dtype=dtype)
    return ExitHead(parts.eval().requires_grad_(requires_grad=False), matrix.to(dtype))


def row_towards(head: ExitHead, token: int, pull: float, seed: int) -> Tensor:
    """A state `(1, hidden)` that leans to a token: 0 not at all, 1 as much as to chance."""
    noise = torch.randn(1, head.matrix.shape[1], generator=torch.Generator().manual_seed(seed))
    direction = head.matrix[token].float()
    return (noise + pull * direction * noise.norm() / direction.norm()).to(head.matrix.dtype)
