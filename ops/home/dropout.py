"""Dropout on what each block adds to the residual stream, for training only.

The templates are few beside the steps: a model that sees each of them some fifty times learns them by
heart. With one in ten of a block's outputs missing it has to find the meaning in more than one way.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import dropout
from transformers import LlamaForCausalLM


def drop_residuals(lm: LlamaForCausalLM, share: float) -> None:
    """From now on, in training mode, `share` of the values that each attention and MLP adds are dropped."""

    def drop_attention(module: nn.Module, _: Any, out: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        return dropout(out[0], share, module.training), out[1]

    def drop_mlp(module: nn.Module, _: Any, out: Tensor) -> Tensor:
        return dropout(out, share, module.training)

    for layer in lm.model.layers:
        layer.self_attn.register_forward_hook(drop_attention)
        layer.mlp.register_forward_hook(drop_mlp)
