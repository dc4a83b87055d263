"""The heads that are tuned: fp32 weights with gradients, and what they start from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ops.tuning.plan import Plan
from shared.model.bundle import Bundle
from shared.model.families import Family, family_of
from shared.model.heads import ExitParts, exit_parts
from shared.model.manifest import EDGE_FILE, EXITS_FILE, ExitEntry
from shared.model.weights import WeightFile, open_weights

Heads = Mapping[int, ExitParts]
"""The tuned heads by exit layer."""


def make_heads(bundle: Bundle, plan: Plan, device: str) -> dict[int, ExitParts]:
    """Heads of the plan's form, ready to be tuned.

    An exit that has the form already goes on from its weights. Another one keeps its norm; its MLP is a
    copy of that of the layer it stands after, its own LM head a copy of the shared one, and a low-rank
    addition starts at nothing.

    Raises:
        BundleError: a weight file is missing or damaged.
    """
    family = family_of(bundle.manifest.family)
    config = family.read_config(bundle.manifest.config)
    with (
        open_weights(bundle.weight_file(EDGE_FILE)) as edge,
        open_weights(bundle.weight_file(EXITS_FILE)) as old,
    ):
        start = _Start(bundle, family, edge, old)
        return {layer: start.head(config, plan.entry(layer), plan.seed).to(device) for layer in plan.layers}


class _Start:
    """Finds the first weights of new heads in a bundle's files."""

    def __init__(self, bundle: Bundle, family: Family, edge: WeightFile, exits: WeightFile) -> None:
        self._family = family
        self._edge = edge
        self._exits = exits
        self._entries = {entry.layer: entry for entry in bundle.manifest.exits}
        self._shared = "embed" if bundle.manifest.tied_head else "lm_head"

    def head(self, config: Any, entry: ExitEntry, seed: int) -> ExitParts:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + entry.layer)
            parts = exit_parts(self._family, config, entry).float()
        state = parts.state_dict()
        goes_on = _form(self._entries[entry.layer]) == _form(entry)
        find = self._own if goes_on else self._copied
        for name, value in state.items():
            found = find(entry.layer, name, value)
            if found is not None:
                state[name] = found
        parts.load_state_dict(state)
        return parts.train()

    def _own(self, layer: int, name: str, like: Tensor) -> Tensor:
        return self._exits.read(f"exits.{layer}.{name}", tuple(like.shape), torch.float32)

    def _copied(self, layer: int, name: str, like: Tensor) -> Tensor | None:
        part, _, rest = name.partition(".")
        if part == "norm":
            return self._own(layer, name, like)
        if part == "lora_up":
            return torch.zeros_like(like)
        source = {
            "mlp": f"layers.{layer - 1}.mlp",
            "mlp_norm": f"layers.{layer - 1}.{self._family.mlp_norm}",
            "mlp_post_norm": f"layers.{layer - 1}.{self._family.mlp_post_norm}",
            "lm_head": self._shared,
        }.get(part)
        if source is None:
            return None  # drawn by chance
        return self._edge.read(f"{source}.{rest}", tuple(like.shape), torch.float32)


def _form(entry: ExitEntry) -> tuple[str, str, int | None]:
    return entry.head, entry.lm_head, entry.rank
