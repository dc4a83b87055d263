"""Putting tuned heads into a bundle.

The new heads are written beside the old ones. Then the manifest forgets what was calibrated, the heads are
replaced, and the manifest names them: a change that is cut short leaves exits that answer nothing, never new
exits that are trusted like the old ones.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import torch
from msgspec.structs import replace
from safetensors.torch import load_file
from torch import Tensor

from ops.folders import new_folder, settle
from ops.tensor_writer import DTYPES, TensorSpec, open_writer
from ops.tuning.heads import Heads
from ops.tuning.plan import NEVER, Plan
from shared.model.bundle import Bundle
from shared.model.manifest import EXITS_FILE, FileEntry

_DTYPE_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}


def write_heads(bundle: Bundle, plan: Plan, heads: Heads, out: Path | None, *, force: bool = False) -> Bundle:
    """Store tuned heads, in the bundle's dtype, and forget what was calibrated with the old ones.

    Args:
        bundle: that the heads were tuned for.
        plan: that they were tuned by.
        heads: by layer.
        out: folder of a new bundle with them; None changes `bundle` itself.
        force: replace an existing `out`.

    Returns:
        The bundle with the heads, opened.

    Raises:
        BundleError: the bundle's exits can't be read.
    """
    if out is None:
        _replace_heads(bundle, plan, heads, bundle.path)
        return Bundle.open(bundle.path)
    with new_folder(out, force=force) as folder:
        _copy_rest(bundle, folder)
        _replace_heads(bundle, plan, heads, folder)
    return Bundle.open(out)


def _copy_rest(bundle: Bundle, folder: Path) -> None:
    for name in bundle.manifest.files.keys() - {EXITS_FILE}:
        if (source := bundle.path / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / name)


def _replace_heads(bundle: Bundle, plan: Plan, heads: Heads, folder: Path) -> None:
    path, manifest = folder / EXITS_FILE, bundle.manifest
    fresh = path.with_name(path.name + ".new")
    entry = _write_tensors(dict(_tensors(bundle, heads)), fresh)
    distrusted = (replace(old, threshold=NEVER) if old.layer in heads else old for old in manifest.exits)
    replace(manifest, exits=tuple(distrusted), calibration=None).write(folder)
    settle(fresh, path)
    tuned = (plan.entry(old.layer) if old.layer in heads else old for old in manifest.exits)
    files = {**manifest.files, EXITS_FILE: entry}
    replace(manifest, exits=tuple(tuned), files=files, calibration=None).write(folder)


def _tensors(bundle: Bundle, heads: Heads) -> Iterator[tuple[str, Tensor]]:
    """Every exit's tensors: new ones in the bundle's dtype, others as they were."""
    old: Mapping[str, Tensor] = load_file(bundle.path / EXITS_FILE)
    stored = bundle.manifest.dtype
    dtype: torch.dtype = getattr(torch, "bfloat16" if stored == "int8" else stored)
    for layer in bundle.partition.exits:
        if layer in heads:
            for name, value in heads[layer].state_dict().items():
                yield f"exits.{layer}.{name}", value.to(device="cpu", dtype=dtype)
        else:
            yield from ((name, value) for name, value in old.items() if name.startswith(f"exits.{layer}."))


def _write_tensors(tensors: Mapping[str, Tensor], path: Path) -> FileEntry:
    """Write a safetensors file in place of what a run that was killed may have left there."""
    path.unlink(missing_ok=True)
    specs = {
        name: TensorSpec(tuple(value.shape), _DTYPE_NAMES[value.dtype]) for name, value in tensors.items()
    }
    with open_writer(path, specs) as writer:
        for name, value in tensors.items():
            writer.write(name, value)
        return writer.entry()
