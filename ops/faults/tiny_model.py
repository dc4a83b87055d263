"""A tiny random model whose every token is a word of its own, so that equal texts are equal tokens."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ops.prepare import prepare
from shared.model.bundle import Bundle

VOCAB: Final = 320
EXITS: Final = (2, 4)
MAX_POSITIONS: Final = 1024
NAME: Final = "faults"
_STOP: Final = 2
_STOP_WORD: Final = "</s>"


def word(token: int) -> str:
    """The text of an ordinary token."""
    return f"w{token}"


def tiny_bundle(out: Path, seed: int = 3) -> Bundle:
    """Six random Llama layers with exits after two and four.

    Args:
        out: the bundle's folder.
        seed: of the weights; another one makes another digest under the same name.
    """
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch)
        model = random_model(seed)
        model.config.save_pretrained(checkpoint)
        save_file(dict(model.state_dict()), checkpoint / "model.safetensors", {"format": "pt"})
        _tokenizer().save_pretrained(checkpoint)
        return prepare(checkpoint, EXITS, None, out, name=NAME)


def random_model(seed: int) -> Any:
    """The unsplit model that a bundle of this seed is cut from."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_POSITIONS,
        eos_token_id=_STOP,
        initializer_range=0.2,  # large, so that no two tokens are nearly as likely
    )
    return LlamaForCausalLM(config)


def _tokenizer() -> Any:
    words = [_STOP_WORD if token == _STOP else word(token) for token in range(VOCAB)]
    tokenizer = Tokenizer(models.WordLevel({text: token for token, text in enumerate(words)}, word(0)))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token=_STOP_WORD, clean_up_tokenization_spaces=False
    )
