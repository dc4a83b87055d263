"""What differs between model families, in one table.

Layers, norms and rotary tables are Hugging Face's own classes, so a family's mathematics is written
once, there. Here stands only what their outer models do before the first layer and after the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from shared.errors import UnsupportedModelError
from shared.model.attention import PACKED_ATTENTION


def _root_of_width(config: Any, dtype: torch.dtype) -> float:
    """Gemma scales by the root of the width *rounded to the weights' dtype* (55.4256 is 55.5 in bf16)."""
    return float(torch.tensor(math.sqrt(config.hidden_size)).to(dtype))


def _embedding_multiplier(config: Any, _dtype: torch.dtype) -> float:
    return float(config.embedding_multiplier)


def _soft_cap(config: Any, logits: Tensor) -> Tensor:
    cap = config.final_logit_softcapping
    return logits if cap is None else torch.tanh(logits / float(cap)) * float(cap)


def _residual_multiplier(config: Any) -> float:
    return float(config.residual_multiplier)


def _divide_by_scaling(config: Any, logits: Tensor) -> Tensor:
    return logits / float(config.logits_scaling)


@dataclass(frozen=True)
class Family:
    """One family: its classes in transformers, and its steps outside the layers.

    `embedding_scale` multiplies the token embeddings (first stage only); `logits` is what follows the
    LM head; `rotary_by_layer_type` says that layers of different types rotate by different bases.
    `mlp_norm` and `mlp_post_norm` name the norms that a layer has before and after its MLP, and
    `residual_scale` multiplies what the MLP adds: an exit head may have an MLP of its own.
    """

    module: str
    prefix: str
    config_class: str
    embedding_scale: Callable[[Any, torch.dtype], float] | None = None
    logits: Callable[[Any, Tensor], Tensor] | None = None
    rotary_by_layer_type: bool = False
    mlp_norm: str | None = "post_attention_layernorm"
    mlp_post_norm: str | None = None
    residual_scale: Callable[[Any], float] | None = None

    def layer(self, config: Any, index: int) -> nn.Module:
        """Decoder layer `index`, by the whole model's numbering.

        The global number is kept on purpose: layer types, windows and no-RoPE lists in `config` are
        then right without slicing any of them.
        """
        return self._class("DecoderLayer")(config, index)  # type: ignore[no-any-return]

    def mlp(self, config: Any) -> nn.Module:
        """The MLP of a layer, without norms and residual."""
        return self._class("MLP")(config)  # type: ignore[no-any-return]

    def norm(self, config: Any) -> nn.Module:
        """A norm as the family's layers have them, and as it stands before an LM head."""
        return self._class("RMSNorm")(config.hidden_size, eps=config.rms_norm_eps)  # type: ignore[no-any-return]

    def rotary(self, config: Any) -> nn.Module:
        """The rotary table maker; holds frequencies, no weights."""
        return self._class("RotaryEmbedding")(config)  # type: ignore[no-any-return]

    def rotary_kind(self, config: Any, index: int) -> str | None:
        """Which rotary table layer `index` uses; None where there is only one."""
        return config.layer_types[index] if self.rotary_by_layer_type else None

    def read_config(self, raw: Mapping[str, Any]) -> Any:
        """The typed configuration, set to attend through the packed caches.

        Raises:
            UnsupportedModelError: transformers refuses it, or it is of a kind that can't be staged.
        """
        package = import_module(f"transformers.models.{self.module}.configuration_{self.module}")
        try:
            config = getattr(package, self.config_class).from_dict(dict(raw))
        except Exception as error:
            raise UnsupportedModelError(
                f"transformers refuses the model's configuration: {error}. Correct config.json."
            ) from error
        _check_stageable(config)
        config._attn_implementation = PACKED_ATTENTION  # noqa: SLF001 - the only way without an outer model
        return config

    def _class(self, suffix: str) -> Any:
        modeling = import_module(f"transformers.models.{self.module}.modeling_{self.module}")
        return getattr(modeling, self.prefix + suffix)


_MLP_BETWEEN_NORMS: Any = {
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
}

FAMILIES: Mapping[str, Family] = {
    "llama": Family("llama", "Llama", "LlamaConfig"),
    "qwen2": Family("qwen2", "Qwen2", "Qwen2Config"),
    "qwen3": Family("qwen3", "Qwen3", "Qwen3Config"),
    "mistral": Family("mistral", "Mistral", "MistralConfig"),
    "gemma2": Family("gemma2", "Gemma2", "Gemma2Config", _root_of_width, _soft_cap, **_MLP_BETWEEN_NORMS),
    "gemma3_text": Family(
        "gemma3",
        "Gemma3",
        "Gemma3TextConfig",
        _root_of_width,
        _soft_cap,
        rotary_by_layer_type=True,
        **_MLP_BETWEEN_NORMS,
    ),
    "phi3": Family("phi3", "Phi3", "Phi3Config"),
    "smollm3": Family("smollm3", "SmolLM3", "SmolLM3Config"),
    "olmo2": Family(
        "olmo2", "Olmo2", "Olmo2Config", mlp_norm=None, mlp_post_norm="post_feedforward_layernorm"
    ),
    "granite": Family(
        "granite",
        "Granite",
        "GraniteConfig",
        _embedding_multiplier,
        _divide_by_scaling,
        residual_scale=_residual_multiplier,
    ),
}


def family_of(name: str) -> Family:
    """The family called `name` (a Hugging Face `model_type`).

    Raises:
        UnsupportedModelError: we don't know it; the message lists those we do.
    """
    try:
        return FAMILIES[name]
    except KeyError:
        raise UnsupportedModelError(
            f"Models of type {name!r} are not supported. Use one of: {', '.join(FAMILIES)}."
        ) from None


def position_limit(config: Any) -> int:
    """The longest text, in tokens, over which the rotary frequencies stay the same.

    LongRoPE changes every frequency once the text is longer than the pre-training length; keys that
    were cached with the old ones would be wrong, so such a model is served up to that length.
    (Dynamic NTK changes beyond `max_position_embeddings`, which is a limit anyway.)
    """
    limit = int(config.max_position_embeddings)
    for rope in _rope_parameters(config):
        if rope.get("rope_type") == "longrope":
            limit = min(limit, int(rope["original_max_position_embeddings"]))
    return limit


def _rope_parameters(config: Any) -> list[Mapping[str, Any]]:
    parameters = config.rope_parameters
    nested = [value for value in parameters.values() if isinstance(value, Mapping)]
    return nested or [parameters]


def _check_stageable(config: Any) -> None:
    if getattr(config, "use_bidirectional_attention", None):
        raise UnsupportedModelError(
            "This model attends in both directions (use_bidirectional_attention), so it can't generate. "
            "Use a causal language model."
        )
    if getattr(config, "quantization_config", None):
        raise UnsupportedModelError(
            "This checkpoint is quantised (quantization_config). Prepare from the unquantised checkpoint."
        )
