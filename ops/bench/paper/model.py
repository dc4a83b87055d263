"""A Llama of random weights that has something to say: big enough to be worth splitting, made on the fly.

Random weights make texts of hair's-breadth choices, which another batch shape or codec would turn over. So
one thing is planted: the LM head's row of a token is the embedding of the token before it in a fixed round
of the vocabulary. Every layer and head costs what it costs in any model of this shape.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, PreTrainedTokenizerFast

from ops.bench.paper.script import THRESHOLD
from ops.prepare import prepare
from shared.model.bundle import Bundle

# How far the round goes with each token; odd and no multiple of five, so that it comes by every token.
_STEP: Final = 7919
# Embeddings are larger than what the layers add, or the text would be lost among them.
_EMBEDDING_STD: Final = 4.0
_WEIGHT_STD: Final = 0.02
_REVISION: Final = 1


class Shape(NamedTuple):
    """A Llama's shape; the exits stand after a quarter and a half of the layers, as in the paper."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    vocab: int
    max_positions: int

    @property
    def exits(self) -> tuple[int, int]:
        """After how many layers."""
        return self.layers // 4, self.layers // 2

    @property
    def parameters(self) -> int:
        """How many weights, norms left out."""
        layer = 4 * self.hidden * self.hidden + 3 * self.hidden * self.intermediate
        return self.layers * layer + 2 * self.vocab * self.hidden


BIG: Final = Shape("llama-270m", 1024, 2816, 16, 16, 32000, 1024)
TINY: Final = Shape("llama-tiny", 64, 128, 8, 2, 320, 512)


def cache_folder() -> Path:
    """Where made models are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "antiphon" / "bench"


def scripted_bundle(shape: Shape, folder: Path) -> Bundle:
    """The bundle of a shape, made unless it is there.

    Args:
        shape: of the model.
        folder: where such bundles are kept.
    """
    out = folder / f"{shape.name}-{_REVISION}"
    if (out / "manifest.json").is_file():
        return Bundle.open(out)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        checkpoint = Path(scratch)
        llama_config(shape).save_pretrained(checkpoint)
        save_file(planted_weights(shape), checkpoint / "model.safetensors", {"format": "pt"})
        _tokenizer(shape.vocab).save_pretrained(checkpoint)
        return prepare(
            checkpoint, shape.exits, None, out, name=shape.name, thresholds=(THRESHOLD,) * 2, force=True
        )


def words_of(ids: tuple[int, ...]) -> str:
    """The text that the bundle's tokenizer reads as `ids`."""
    return " ".join(f"w{token}" for token in ids)


def llama_config(shape: Shape) -> LlamaConfig:
    """Of the unsplit model."""
    return LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.max_positions,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=False,
    )


def planted_weights(shape: Shape) -> dict[str, Tensor]:
    """A checkpoint's tensors, in bfloat16; the same for every call."""
    random = torch.Generator().manual_seed(_REVISION)

    def matrix(rows: int, columns: int, std: float = _WEIGHT_STD) -> Tensor:
        return (torch.randn(rows, columns, generator=random) * std).to(torch.bfloat16)

    hidden, wide = shape.hidden, shape.intermediate
    embedding = matrix(shape.vocab, hidden, _EMBEDDING_STD)
    planted = embedding.roll(_STEP % shape.vocab, dims=0)
    found = {"model.embed_tokens.weight": embedding, "lm_head.weight": planted}
    found["model.norm.weight"] = torch.ones(hidden, dtype=torch.bfloat16)
    for index in range(shape.layers):
        layer = f"model.layers.{index}"
        for name in "qkvo":
            found[f"{layer}.self_attn.{name}_proj.weight"] = matrix(hidden, hidden)
        found[f"{layer}.mlp.gate_proj.weight"] = matrix(wide, hidden)
        found[f"{layer}.mlp.up_proj.weight"] = matrix(wide, hidden)
        found[f"{layer}.mlp.down_proj.weight"] = matrix(hidden, wide)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            found[f"{layer}.{norm}.weight"] = torch.ones(hidden, dtype=torch.bfloat16)
    return found


def _tokenizer(vocab: int) -> Any:
    """A word a token."""
    words = Tokenizer(models.WordLevel({f"w{token}": token for token in range(vocab)}, "w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=words, clean_up_tokenization_spaces=False
    )
