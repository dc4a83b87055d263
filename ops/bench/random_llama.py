"""Llama bundles of random weights, made on the fly: speed and memory do not depend on what weights say."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ops.prepare import prepare
from shared.model.bundle import Bundle

_HEAD_SIZE: Final = 64
# So wide that logits differ clearly, whatever the width: near ties would make equal texts a matter of luck.
_SPREAD: Final = 1.6


@dataclass(frozen=True)
class LlamaShape:
    """What a random model looks like.

    Attributes:
        hidden, intermediate: widths; `hidden` is a multiple of 64.
        layers: in all.
        exits: after how many layers an exit stands; the last one is the split.
        vocab: tokens; each is a word of its own, so that equal texts are equal tokens.
        positions: the longest context.
    """

    hidden: int
    intermediate: int
    layers: int
    exits: tuple[int, ...]
    vocab: int
    positions: int = 2048

    @property
    def parameters(self) -> int:
        """Weights of layers, embedding and LM head, norms left out."""
        layer = 4 * self.hidden**2 + 3 * self.hidden * self.intermediate
        return self.layers * layer + 2 * self.vocab * self.hidden


TINY: Final = LlamaShape(256, 704, 16, (8,), 2048)
"""The tiny model of the overhead benches."""

LLAMA_270M: Final = LlamaShape(1024, 2816, 16, (8,), 32000)
"""About 270 M parameters."""


def random_bundle(shape: LlamaShape, out: Path, *, name: str = "random", seed: int = 5) -> Bundle:
    """A float32 bundle of random weights, prepared as any checkpoint is; its answers have no end.

    Args:
        shape: of the model.
        out: the bundle's folder; the checkpoint lies beside it while it is prepared.
        name: of the bundle.
        seed: of the weights.
    """
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        checkpoint = Path(scratch)
        _write_model(LlamaForCausalLM(_config(shape)), checkpoint)
        _tokenizer(shape.vocab).save_pretrained(checkpoint)
        return prepare(checkpoint, shape.exits, None, out, name=name)


def _write_model(model: Any, checkpoint: Path) -> None:
    model.config.save_pretrained(checkpoint)
    save_file(dict(model.state_dict()), checkpoint / "model.safetensors", {"format": "pt"})


def _config(shape: LlamaShape) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.hidden // _HEAD_SIZE,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        initializer_range=_SPREAD / shape.hidden**0.5,
    )


def _tokenizer(vocab: int) -> Any:
    words = Tokenizer(models.WordLevel({f"w{token}": token for token in range(vocab)}, "w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=words, clean_up_tokenization_spaces=False
    )
