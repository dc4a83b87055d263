"""From a bundle to running stages: the edge reads only its file, the cloud only its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from shared.model.bundle import Bundle
from shared.model.families import Family, family_of
from shared.model.heads import ExitHead
from shared.model.manifest import CLOUD_FILE, EDGE_FILE
from shared.model.partition import StagePlan
from shared.model.stage import Embedding, Rotary, Stage
from shared.model.weights import WeightFile, open_weights


@dataclass(frozen=True)
class EdgeModel:
    """The edge's rungs, lowest first, with one exit head after each."""

    stages: list[Stage]
    heads: list[ExitHead]


@dataclass(frozen=True)
class CloudModel:
    """The last rung and the model's own head."""

    stage: Stage
    head: ExitHead


def load_edge(bundle: Bundle, dtype: torch.dtype = torch.float32) -> EdgeModel:
    """Load the edge's stages and exit heads from `edge.safetensors` alone.

    Raises:
        BundleError: the file is missing, damaged, or not what the manifest says.
    """
    with open_weights(bundle.weight_file(EDGE_FILE)) as weights:
        builder = _Builder(bundle, weights, dtype)
        embedding = builder.vocabulary_matrix("embed.weight")
        lm_head = embedding if bundle.manifest.tied_head else builder.vocabulary_matrix("lm_head.weight")
        plans = bundle.partition.edge_stages
        stages = [builder.stage(plan, embedding if plan.index == 0 else None) for plan in plans]
        heads = [builder.head(f"exits.{plan.end_layer}.norm", lm_head) for plan in plans]
    return EdgeModel(stages, heads)


def load_cloud(bundle: Bundle, dtype: torch.dtype = torch.float32) -> CloudModel:
    """Load the last stage and the LM head from `cloud.safetensors` alone.

    Raises:
        BundleError: the file is missing, damaged, or not what the manifest says.
    """
    with open_weights(bundle.weight_file(CLOUD_FILE)) as weights:
        builder = _Builder(bundle, weights, dtype)
        stage = builder.stage(bundle.partition.cloud_stage, None)
        head = builder.head("norm", builder.vocabulary_matrix("lm_head.weight"))
    return CloudModel(stage, head)


class _Builder:
    """Makes the parts of one side from its weight file."""

    def __init__(self, bundle: Bundle, weights: WeightFile, dtype: torch.dtype) -> None:
        self._bundle = bundle
        self._weights = weights
        self._dtype = dtype
        self._family: Family = family_of(bundle.manifest.family)
        self._config: Any = self._family.read_config(bundle.manifest.config)

    def vocabulary_matrix(self, name: str) -> Tensor:
        """The embedding or the LM head, (vocab, hidden)."""
        return self._weights.read(name, (self._bundle.vocab_size, self._bundle.hidden_size), self._dtype)

    def stage(self, plan: StagePlan, embedding: Tensor | None) -> Stage:
        config, family = self._config, self._family
        return Stage(
            plan,
            [self._layer(index) for index in plan.layers],
            Rotary(family.rotary(config), [family.rotary_kind(config, index) for index in plan.layers]),
            None if embedding is None else self._embed(embedding),
            kv_heads=config.num_key_value_heads,
            head_size=head_size(config),
            hidden_size=config.hidden_size,
            dtype=self._dtype,
            max_positions=self._bundle.max_positions,
        )

    def head(self, norm_name: str, lm_head: Tensor) -> ExitHead:
        with torch.device("meta"):
            norm = self._family.norm(self._config)
        finish = self._family.logits
        return ExitHead(
            self._weights.fill(norm, norm_name, self._dtype),
            lm_head,
            None if finish is None else partial(finish, self._config),
        )

    def _layer(self, index: int) -> nn.Module:
        with torch.device("meta"):
            layer = self._family.layer(self._config, index)
        return self._weights.fill(layer, f"layers.{index}", self._dtype)

    def _embed(self, weight: Tensor) -> Embedding:
        scale = self._family.embedding_scale
        return Embedding(weight, None if scale is None else scale(self._config, self._dtype))


def head_size(config: Any) -> int:
    """Width of one attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
