"""From a bundle to running stages: the edge reads only its files, the cloud only its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shared.model.bundle import Bundle
from shared.model.families import Family, family_of
from shared.model.heads import ExitHead, ExitParts, exit_parts
from shared.model.manifest import CLOUD_FILE, EDGE_FILE, EXITS_FILE, ExitEntry
from shared.model.partition import StagePlan
from shared.model.stage import Embedding, Rotary, Stage
from shared.model.weights import MakeLinear, WeightFile, open_weights


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


def load_edge(
    bundle: Bundle,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    linear: MakeLinear | None = None,
) -> EdgeModel:
    """Load the edge's stages from `edge.safetensors` and its exit heads from `exits.safetensors`.

    Args:
        bundle: what to load.
        dtype: of rows, caches and weights.
        device: where they are.
        linear: makes what stands for the layers' linear layers; see `shared/model/precision.py`.

    Raises:
        BundleError: a file is missing, damaged, or not what the manifest says.
        ConfigError: this CPU can't compute with such linear layers.
    """
    with open_weights(bundle.weight_file(EDGE_FILE), device) as weights:
        builder = _Builder(bundle, weights, dtype, device, linear)
        embedding = builder.vocabulary_matrix("embed.weight")
        lm_head = embedding if bundle.manifest.tied_head else builder.vocabulary_matrix("lm_head.weight")
        plans = bundle.partition.edge_stages
        stages = [builder.stage(plan, embedding if plan.index == 0 else None) for plan in plans]
    return EdgeModel(stages, load_exit_heads(bundle, lm_head, dtype, device))


def load_exit_heads(
    bundle: Bundle, lm_head: Tensor, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> list[ExitHead]:
    """Load every exit's head, of whatever form, from `exits.safetensors` alone.

    Args:
        bundle: whose exits.
        lm_head: the matrix that the exits share, (vocab, hidden).
        dtype: of the heads' weights.
        device: of the heads' weights and of `lm_head`.

    Raises:
        BundleError: the file is missing, damaged, or not what the manifest says.
    """
    with open_weights(bundle.weight_file(EXITS_FILE), device) as weights:
        builder = _Builder(bundle, weights, dtype, device)
        return [builder.exit_head(entry, lm_head) for entry in bundle.manifest.exits]


def load_cloud(
    bundle: Bundle,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    linear: MakeLinear | None = None,
) -> CloudModel:
    """Load the last stage and the LM head from `cloud.safetensors` alone.

    Args:
        bundle: what to load.
        dtype: of rows, caches and weights.
        device: where they are.
        linear: makes what stands for the layers' linear layers; see `shared/model/precision.py`.

    Raises:
        BundleError: the file is missing, damaged, or not what the manifest says.
        ConfigError: this CPU can't compute with such linear layers.
    """
    with open_weights(bundle.weight_file(CLOUD_FILE), device) as weights:
        builder = _Builder(bundle, weights, dtype, device, linear)
        stage = builder.stage(bundle.partition.cloud_stage, None)
        head = builder.final_head(builder.vocabulary_matrix("lm_head.weight"))
    return CloudModel(stage, head)


class _Builder:
    """Makes the parts of one side from its weight file."""

    def __init__(
        self,
        bundle: Bundle,
        weights: WeightFile,
        dtype: torch.dtype,
        device: str,
        linear: MakeLinear | None = None,
    ) -> None:
        self._bundle = bundle
        self._weights = weights
        self._linear = linear
        self._dtype = dtype
        self._device = torch.device(device)
        self._family: Family = family_of(bundle.manifest.family)
        self._config: Any = self._family.read_config(bundle.manifest.config)

    def vocabulary_matrix(self, name: str) -> Tensor:
        """The embedding or the LM head, (vocab, hidden)."""
        return self._weights.read(name, (self._bundle.vocab_size, self._bundle.hidden_size), self._dtype)

    def stage(self, plan: StagePlan, embedding: Tensor | None) -> Stage:
        config, family = self._config, self._family
        with self._device:  # frequencies are computed, not read
            rotary = family.rotary(config)
        return Stage(
            plan,
            [self._layer(index) for index in plan.layers],
            Rotary(rotary, [family.rotary_kind(config, index) for index in plan.layers]),
            None if embedding is None else self._embed(embedding),
            kv_heads=config.num_key_value_heads,
            head_size=head_size(config),
            hidden_size=config.hidden_size,
            dtype=self._dtype,
            max_positions=self._bundle.max_positions,
        )

    def exit_head(self, entry: ExitEntry, lm_head: Tensor) -> ExitHead:
        parts = self._parts(entry)
        self._weights.fill(parts, f"exits.{entry.layer}", self._dtype)
        return ExitHead(parts, lm_head)

    def final_head(self, lm_head: Tensor) -> ExitHead:
        """The model's own head: the final norm, named without a layer, and the LM head."""
        parts = self._parts(ExitEntry(self._bundle.partition.layers))
        self._weights.fill(parts.norm, "norm", self._dtype)
        return ExitHead(parts.eval(), lm_head)

    def _parts(self, entry: ExitEntry) -> ExitParts:
        with torch.device("meta"):
            return exit_parts(self._family, self._config, entry)

    def _layer(self, index: int) -> nn.Module:
        with torch.device("meta"):
            layer = self._family.layer(self._config, index)
        name = f"layers.{index}"
        if self._linear is None:
            return self._weights.fill(layer, name, self._dtype)
        # Opened for this layer alone: pages that were read stay in memory until their mapping goes.
        with open_weights(self._weights.path) as weights:
            return weights.fill(layer, name, self._dtype, self._linear)

    def _embed(self, weight: Tensor) -> Embedding:
        scale = self._family.embedding_scale
        return Embedding(weight, None if scale is None else scale(self._config, self._dtype))


def head_size(config: Any) -> int:
    """Width of one attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
