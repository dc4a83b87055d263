"""Tiny random models of every family, with each family's special features switched on and biting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

VOCAB = 320
WINDOW = 9  # shorter than every text of these tests

_WIDTHS: Mapping[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
    "initializer_range": 0.2,  # large, so that logits differ clearly and soft caps are reached
}
_MIXED = ["sliding_attention", "full_attention", "sliding_attention"] * 2


@dataclass(frozen=True)
class Case:
    """One tiny model. `features` maps a feature's name to the settings that switch it off."""

    name: str
    family: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    features: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def config(self, **changes: Any) -> Any:
        """The Hugging Face configuration."""
        config_class = getattr(transformers, f"{_CLASSES[self.family]}Config")
        return config_class(**{**_WIDTHS, **self.settings, **changes})

    def model(self, **changes: Any) -> Any:
        """The unsplit reference model, its norms random too; the same weights every time."""
        torch.manual_seed(7)
        model_class = getattr(transformers, f"{_CLASSES[self.family].removesuffix('Text')}ForCausalLM")
        model = model_class(self.config(**changes)).eval()
        shake_norms(model)
        return model


def shake_norms(model: torch.nn.Module) -> None:
    """Give every norm a weight of its own: with all of them at one, mixing them up would not show."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.add_(torch.rand(weight.shape, generator=generator) * 0.6 - 0.3)


_CLASSES = {
    "llama": "Llama",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "mistral": "Mistral",
    "gemma2": "Gemma2",
    "gemma3_text": "Gemma3Text",
    "phi3": "Phi3",
    "smollm3": "SmolLM3",
    "olmo2": "Olmo2",
    "granite": "Granite",
}

_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.5,
    "short_factor": [1.0, 1.3, 1.7],
    "long_factor": [2.0, 4.0, 8.0],
}
_TWO_ROPES = {
    "full_attention": {"rope_type": "linear", "rope_theta": 100000.0, "factor": 4.0},
    "sliding_attention": _PLAIN_ROPE,
}
_ONE_ROPE = {"full_attention": _PLAIN_ROPE, "sliding_attention": _PLAIN_ROPE}
_NO_WINDOW = {"sliding_window": 4096}

CASES = [
    Case("llama", "llama"),
    Case(
        "llama-tied-rope-scaled",
        "llama",
        {
            "tie_word_embeddings": True,
            "rope_parameters": _LLAMA3_ROPE,
            "attention_bias": True,
            "mlp_bias": True,
        },
        {"rope": {"rope_parameters": _PLAIN_ROPE}},
    ),
    Case(
        "qwen2",
        "qwen2",
        {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 3},
        {"window": _NO_WINDOW},
    ),
    Case("qwen3", "qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    Case("mistral", "mistral", {"sliding_window": WINDOW, "head_dim": 16}, {"window": _NO_WINDOW}),
    Case(
        "gemma2",
        "gemma2",
        {
            "head_dim": 16,
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 24,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 5.0,
        },
        {
            "window": _NO_WINDOW,
            "query scale": {"query_pre_attn_scalar": 16},
            "attention cap": {"attn_logit_softcapping": 50.0},
            "logit cap": {"final_logit_softcapping": None},
        },
    ),
    Case(
        "gemma3_text",
        "gemma3_text",
        {
            "head_dim": 16,
            "sliding_window": WINDOW,
            "layer_types": _MIXED,
            "rope_parameters": _TWO_ROPES,
            "final_logit_softcapping": 5.0,
        },
        {
            "window": _NO_WINDOW,
            "two rotary bases": {"rope_parameters": _ONE_ROPE},
            "logit cap": {"final_logit_softcapping": None},
        },
    ),
    Case(
        "phi3",
        "phi3",
        {
            "rope_parameters": _LONG_ROPE,
            "original_max_position_embeddings": 256,
            "sliding_window": WINDOW,
        },
        {
            "window": _NO_WINDOW,
            "partial rope": {"rope_parameters": {**_PLAIN_ROPE, "partial_rotary_factor": 1.0}},
        },
    ),
    Case(
        "smollm3",
        "smollm3",
        {"no_rope_layers": [1, 0, 1, 1, 0, 1], "use_sliding_window": True, "sliding_window": WINDOW},
        {"no-rope layers": {"no_rope_layers": [1] * 6}, "window": _NO_WINDOW},
    ),
    Case("olmo2", "olmo2"),
    Case(
        "granite",
        "granite",
        {
            "embedding_multiplier": 6.0,
            "residual_multiplier": 0.4,
            "attention_multiplier": 0.1,
            "logits_scaling": 3.0,
        },
        {
            "embedding scale": {"embedding_multiplier": 1.0},
            "residual scale": {"residual_multiplier": 1.0},
            "attention scale": {"attention_multiplier": 1.0},
            "logit scale": {"logits_scaling": 1.0},
        },
    ),
]


def case_named(name: str) -> Case:
    """The case called `name`."""
    return next(case for case in CASES if case.name == name)
