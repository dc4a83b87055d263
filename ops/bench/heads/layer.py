"""One decoder layer that decodes token after token: what a head's time is compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from shared.model.families import family_of
from shared.model.partition import StagePlan
from shared.model.stage import Rotary, Segment, Stage

_HEAD_SIZE = 64
# An MLP's width over the model's, as Llama has it.
_MLP = 2.75
_CONTEXT = 64


class BareLayer:
    """A Llama layer of random weights with some context.

    Args:
        hidden: its width, a multiple of 64.
        dtype: of its weights.
    """

    def __init__(self, hidden: int, dtype: torch.dtype) -> None:
        self._stage = _stage(hidden, dtype)
        self._cache = self._stage.new_cache()
        context = torch.randn(_CONTEXT, hidden, dtype=dtype)
        self._stage.forward(context, [Segment(self._cache, _CONTEXT)])

    def run(self, row: Tensor) -> None:
        """Decode one row, (1, hidden), and forget it."""
        self._stage.forward(row, [Segment(self._cache, 1)])
        self._cache.truncate(_CONTEXT)


def _stage(hidden: int, dtype: torch.dtype) -> Stage:
    family, heads = family_of("llama"), hidden // _HEAD_SIZE
    config = family.read_config(
        {
            "hidden_size": hidden,
            "intermediate_size": int(hidden * _MLP),
            "num_hidden_layers": 1,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
        }
    )
    layer = family.layer(config, 0).to(dtype).eval().requires_grad_(requires_grad=False)
    return Stage(
        StagePlan(0, 0, 1),
        [layer],
        Rotary(family.rotary(config), [None]),
        None,
        kv_heads=heads,
        head_size=_HEAD_SIZE,
        hidden_size=hidden,
        dtype=dtype,
        max_positions=2 * _CONTEXT,
    )
