"""From a checkpoint to a bundle: check everything first, then copy tensor by tensor."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor

from ops.checkpoint import Checkpoint, open_tensors
from ops.copy_plan import Copy, Model, is_tied, plan_copies, trained_norm
from ops.folders import new_folder, refuse_existing
from ops.tensor_writer import DTYPES, TensorSpec, TensorWriter, open_writer
from shared.errors import BundleError
from shared.model.bundle import Bundle, file_sha256
from shared.model.families import family_of, position_limit
from shared.model.manifest import (
    CLOUD_FILE,
    EDGE_FILE,
    EXITS_FILE,
    FORMAT_VERSION,
    TOKENIZER_FOLDER,
    ExitEntry,
    FileEntry,
    Kind,
    Manifest,
)
from shared.model.partition import Partition
from shared.model.weights import SCALE_SUFFIX, quantise_rows
from shared.wire.ids import check_id

Progress = Callable[[int, int], None]
"""Called with bytes written so far and bytes in all."""

_DTYPE_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
# Matrices in eight bits with a factor for each row; vectors and exit heads in bf16.
INT8 = "int8"
_MATRIX = 2  # dimensions
# Of the machine that wrote the checkpoint, not of the model: they must not change the digest.
TRAINED_THRESHOLD = 0.8
NEVER = 1.0
_VOLATILE_CONFIG = ("transformers_version", "_name_or_path")


def prepare(
    checkpoint: Path,
    exits: Sequence[int],
    split: int | None,
    out: Path,
    *,
    name: str | None = None,
    kind: Kind = "text",
    dtype: str | None = None,
    thresholds: Sequence[float] | None = None,
    temperatures: Sequence[float] | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Cut a Hugging Face checkpoint into a bundle.

    Memory stays near the largest shard. Nothing appears at `out` before everything is written.

    Args:
        checkpoint: folder with config.json, safetensors and tokenizer files. Trained exit norms are
            taken from its exits.safetensors (`exit.{layer}.norm.weight`) where it has one; other exits
            start from the model's final norm.
        exits: after how many layers an exit stands.
        split: how many layers the edge holds; the last exit if None.
        out: the bundle's folder.
        name: the model's name, an id in topics; made from the checkpoint folder's if None.
        kind: what the model answers with.
        dtype: "float32", "float16", "bfloat16", or "int8" (matrices by rows, the rest in bf16); None keeps
            the checkpoint's.
        thresholds: default confidence threshold for each exit of the final ladder. If None, trained
            exits get `TRAINED_THRESHOLD`; the others 1, so that they answer nothing but in standalone
            mode: a logit lens is sure of itself long before it is right.
        temperatures: confidence temperature for each exit of the final ladder.
        force: replace an existing `out`.
        progress: told of every tensor.

    Raises:
        UnsupportedModelError: the model or the cut can't be expressed.
        BundleError: the checkpoint is incomplete or damaged, or `out` exists.
        TopicError: `name` is not an id.
    """
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", checkpoint.resolve().name)[:64] if name is None else name
    check_id(name, "model name")
    refuse_existing(out, force=force)
    model = _understand(Checkpoint(checkpoint), exits, split)
    copies = plan_copies(model)
    specs = _specs(copies, dtype)
    heads = _exit_entries(model, thresholds, temperatures)
    with new_folder(out, force=force) as folder:
        files = _write_weights(folder, copies, specs, progress)
        files |= _copy_tokenizer(model.checkpoint, folder)
        _manifest(model, name, kind, heads, specs, files).write(folder)
    return Bundle.open(out)


def _understand(checkpoint: Checkpoint, exits: Sequence[int], split: int | None) -> Model:
    family = family_of(checkpoint.family)
    config = family.read_config(checkpoint.config)
    checkpoint.tokenizer_files()
    partition = Partition.plan(config.num_hidden_layers, exits, split)
    return Model(checkpoint, family, config, partition, is_tied(checkpoint, config))


def _specs(copies: Sequence[Copy], dtype: str | None) -> dict[str, dict[str, TensorSpec]]:
    """For each file, its tensors in the order in which they will be written."""
    if dtype not in {None, INT8, *_DTYPE_NAMES}:
        raise BundleError(f"dtype {dtype!r} is unknown. Use one of: {', '.join((*_DTYPE_NAMES, INT8))}.")
    specs: dict[str, dict[str, TensorSpec]] = {EDGE_FILE: {}, EXITS_FILE: {}, CLOUD_FILE: {}}
    for source, file, name in copies:
        if dtype == INT8 and len(source.shape) == _MATRIX and file != EXITS_FILE:
            specs[file][name] = TensorSpec(source.shape, "I8")
            specs[file][name + SCALE_SUFFIX] = TensorSpec(source.shape[:1], "F32")
        else:
            kept = "BF16" if dtype == INT8 else _DTYPE_NAMES[dtype] if dtype else source.dtype
            specs[file][name] = TensorSpec(source.shape, kept)
    return specs


def _exit_entries(
    model: Model, thresholds: Sequence[float] | None, temperatures: Sequence[float] | None
) -> tuple[ExitEntry, ...]:
    exits = model.partition.exits
    count = len(exits)
    for what, values in (("thresholds", thresholds), ("temperatures", temperatures)):
        if values is not None and len(values) != count:
            raise BundleError(f"{len(values)} {what} for {count} exits {exits}. Give one for each.")
    trained = [trained_norm(layer) in model.checkpoint.tensors for layer in exits]
    return tuple(
        ExitEntry(layer, threshold=threshold, temperature=temperature)
        for layer, threshold, temperature in zip(
            exits,
            thresholds or [TRAINED_THRESHOLD if each else NEVER for each in trained],
            temperatures or [1.0] * count,
            strict=True,
        )
    )


def _write_weights(
    folder: Path, copies: Sequence[Copy], specs: dict[str, dict[str, TensorSpec]], progress: Progress | None
) -> dict[str, FileEntry]:
    total_bytes = sum(spec.size_bytes for file in specs.values() for spec in file.values())
    done_bytes = 0
    with ExitStack() as stack:
        writers = {file: stack.enter_context(open_writer(folder / file, specs[file])) for file in specs}
        for written_bytes in _stream(copies, specs, writers):
            done_bytes += written_bytes
            if progress is not None:
                progress(done_bytes, total_bytes)
        return {file: writer.entry() for file, writer in writers.items()}


def _stream(
    copies: Sequence[Copy], specs: dict[str, dict[str, TensorSpec]], writers: dict[str, TensorWriter]
) -> Iterator[int]:
    """Copy shard by shard: only one is mapped at a time, and only one tensor is held."""
    shards = dict.fromkeys(copy.source.file for copy in copies)
    for shard in shards:
        with open_tensors(shard) as handle:
            for copy in copies:
                if copy.source.file == shard:
                    tensor = handle.get_tensor(copy.source.name)
                    yield from _put(writers[copy.file], specs[copy.file][copy.name], copy.name, tensor)


def _put(writer: TensorWriter, spec: TensorSpec, name: str, tensor: Tensor) -> Iterator[int]:
    if spec.dtype != "I8":
        yield writer.write(name, tensor)
        return
    rows, scale = quantise_rows(tensor)
    yield writer.write(name, rows)
    yield writer.write(name + SCALE_SUFFIX, scale)


def _copy_tokenizer(checkpoint: Checkpoint, folder: Path) -> dict[str, FileEntry]:
    target = folder / TOKENIZER_FOLDER
    target.mkdir()
    entries = {}
    for source in checkpoint.tokenizer_files():
        copied = Path(shutil.copyfile(source, target / source.name))
        entry = FileEntry(copied.stat().st_size, file_sha256(copied))
        entries[f"{TOKENIZER_FOLDER}/{source.name}"] = entry
    return entries


def _manifest(
    model: Model,
    name: str,
    kind: Kind,
    heads: tuple[ExitEntry, ...],
    specs: dict[str, dict[str, TensorSpec]],
    files: dict[str, FileEntry],
) -> Manifest:
    torch_dtype = DTYPES[specs[EDGE_FILE]["embed.weight"].dtype]
    return Manifest(
        format_version=FORMAT_VERSION,
        name=name,
        kind=kind,
        family=model.checkpoint.family,
        config=_whole_config(model.config),
        partition=model.partition,
        exits=heads,
        dtype=str(torch_dtype).removeprefix("torch."),
        tied_head=model.tied_head,
        max_positions=position_limit(model.config),
        eos_token_ids=model.checkpoint.eos_token_ids(),
        files=files,
    )


def _whole_config(config: Any) -> dict[str, Any]:
    """The configuration with every default written out, as plain JSON values."""
    whole: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in whole.items() if key not in _VOLATILE_CONFIG}
