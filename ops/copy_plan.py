"""Which tensor of a checkpoint goes where in a bundle, checked before a byte is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ops.checkpoint import Checkpoint, TensorInfo, open_tensors
from shared.errors import BundleError, UnsupportedModelError
from shared.model.families import Family
from shared.model.manifest import CLOUD_FILE, EDGE_FILE, EXITS_FILE
from shared.model.partition import Partition
from shared.model.weights import Shape, shapes_of

# Old checkpoints store rotary frequencies, which follow from the configuration.
_SOURCE_DTYPES = ("F32", "F16", "BF16")
_DERIVED_SUFFIX = "rotary_emb.inv_freq"


class Copy(NamedTuple):
    """One tensor on its way: `source` in the checkpoint to `name` in the bundle's `file`."""

    source: TensorInfo
    file: str
    name: str


@dataclass(frozen=True)
class Model:
    """A checkpoint that was read and understood."""

    checkpoint: Checkpoint
    family: Family
    config: Any
    partition: Partition
    tied_head: bool


def trained_norm(layer: int) -> str:
    """The tensor in which a checkpoint keeps the trained norm of the exit after `layer` layers."""
    return f"exit.{layer}.norm.weight"


def is_tied(checkpoint: Checkpoint, config: Any) -> bool:
    """Whether the LM head is the embedding.

    As transformers does it: a tied configuration whose file holds a different head is taken as untied.
    """
    names = checkpoint.tensors.keys()
    if not config.tie_word_embeddings:
        if "lm_head.weight" not in names:
            raise BundleError(
                "The checkpoint has no lm_head.weight, and its config.json does not tie it to the embedding. "
                'Set "tie_word_embeddings": true if the model shares them, or download the missing shard.'
            )
        return False
    if {"lm_head.weight", "embed_tokens.weight"} <= names:
        return _same(checkpoint.tensors["lm_head.weight"], checkpoint.tensors["embed_tokens.weight"])
    return True


def _same(one: TensorInfo, other: TensorInfo) -> bool:
    if one.shape != other.shape:
        return False
    with open_tensors(one.file) as first, open_tensors(other.file) as second:
        return torch.equal(first.get_tensor(one.name), second.get_tensor(other.name))


def plan_copies(model: Model) -> list[Copy]:
    """Every tensor of all files, in the order of the checkpoint's shards."""
    copies = [*_layer_copies(model), *_vocabulary_copies(model), *_norm_copies(model)]
    return sorted(copies, key=lambda copy: (copy.source.file, copy.source.name, copy.file, copy.name))


def _layer_copies(model: Model) -> Iterator[Copy]:
    wanted: set[str] = set()
    for index in range(model.partition.layers):
        with torch.device("meta"):
            layer = model.family.layer(model.config, index)
        file = EDGE_FILE if index < model.partition.split else CLOUD_FILE
        for part, shape in shapes_of(layer).items():
            name = f"layers.{index}.{part}"
            wanted.add(name)
            yield Copy(_find(model.checkpoint, name, shape), file, name)
    _refuse_unexpected(model.checkpoint, wanted)


def _vocabulary_copies(model: Model) -> Iterator[Copy]:
    shape = (model.config.vocab_size, model.config.hidden_size)
    names = model.checkpoint.tensors.keys()
    tied = model.tied_head
    # Either name may be the one that a tied checkpoint stores.
    embedding_name = "embed_tokens.weight" if "embed_tokens.weight" in names or not tied else "lm_head.weight"
    embedding = _find(model.checkpoint, embedding_name, shape)
    head = embedding if tied else _find(model.checkpoint, "lm_head.weight", shape)
    yield Copy(embedding, EDGE_FILE, "embed.weight")
    if not tied:
        yield Copy(head, EDGE_FILE, "lm_head.weight")
    yield Copy(head, CLOUD_FILE, "lm_head.weight")


def _norm_copies(model: Model) -> Iterator[Copy]:
    shape = (model.config.hidden_size,)
    yield Copy(_find(model.checkpoint, "norm.weight", shape), CLOUD_FILE, "norm.weight")
    for layer in model.partition.exits:
        trained = trained_norm(layer)
        source = trained if trained in model.checkpoint.tensors else "norm.weight"
        yield Copy(_find(model.checkpoint, source, shape), EXITS_FILE, f"exits.{layer}.norm.weight")


def _find(checkpoint: Checkpoint, name: str, shape: Shape) -> TensorInfo:
    info = checkpoint.tensors.get(name)
    if info is None:
        raise BundleError(f"The checkpoint lacks {name}. Download its missing shard.")
    if info.shape != shape:
        raise BundleError(
            f"{info.file}: {info.name} is {info.shape}, but config.json asks for {shape}. "
            "Give the config.json that belongs to these weights."
        )
    if info.dtype not in _SOURCE_DTYPES:
        raise UnsupportedModelError(
            f"{info.file}: {info.name} is stored as {info.dtype}. "
            "Prepare from an unquantised checkpoint (float32, float16 or bfloat16)."
        )
    return info


def _refuse_unexpected(checkpoint: Checkpoint, wanted: set[str]) -> None:
    """A weight that no layer would use means that config.json is another model's."""
    extra = sorted(
        name
        for name in checkpoint.tensors.keys() - wanted
        if name.startswith("layers.") and not name.endswith(_DERIVED_SUFFIX)
    )
    if extra:
        raise BundleError(
            f"The checkpoint holds {len(extra)} weight(s) that config.json has no place for, such as "
            f"{extra[0]}. Give the config.json that belongs to these weights."
        )
