"""`manifest.json`: what a bundle holds, how it was cut, and the digests that name it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from shared.errors import BundleError
from shared.model.calibration import Calibration
from shared.model.confidence import MAX_PROBABILITY, Measure
from shared.model.partition import Partition

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
EDGE_FILE = "edge.safetensors"
CLOUD_FILE = "cloud.safetensors"
EXITS_FILE = "exits.safetensors"
TOKENIZER_FOLDER = "tokenizer"

Kind = Literal["home", "text"]
HeadForm = Literal["norm", "mlp", "lora"]
HeadMatrix = Literal["shared", "own"]


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size and SHA-256 (hex) of one file of the bundle."""

    size_bytes: int
    sha256: str


class ExitEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The exit head after `layer` layers, and when its answer counts as sure.

    `head` is its form: "norm" is a norm of its own before the LM head; "mlp" puts an MLP block as the
    family's layers have it before that norm; "lora" adds a product of two thin matrices, of `rank`
    columns between them, to the LM head. `lm_head` says whether that matrix is the one all exits share.
    `temperature` divides the logits before the confidence is taken; a confidence above `threshold` is
    sure.
    """

    layer: int
    head: HeadForm = "norm"
    lm_head: HeadMatrix = "shared"
    rank: int | None = None
    threshold: float = 1.0
    temperature: float = 1.0
    measure: Measure = MAX_PROBABILITY


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `manifest.json`.

    `config` is the model's complete Hugging Face configuration, defaults written out, so that reading
    a width or a limit needs neither torch nor transformers. `files` maps each file's path inside the
    bundle to its size and digest.
    """

    format_version: int
    name: str
    kind: Kind
    family: str
    config: dict[str, Any]
    partition: Partition
    exits: tuple[ExitEntry, ...]
    dtype: str
    tied_head: bool
    max_positions: int
    eos_token_ids: tuple[int, ...]
    files: dict[str, FileEntry]
    calibration: Calibration | None = None

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 (hex) of each thing that edge and cloud must agree on.

        Exit heads are the edge's alone: exits can be tuned again without a new pool.
        """
        return {
            EDGE_FILE: self.files[EDGE_FILE].sha256,
            CLOUD_FILE: self.files[CLOUD_FILE].sha256,
            "tokenizer": _sha256({path: entry.sha256 for path, entry in self.files.items() if "/" in path}),
            "partition": _sha256([self.family, self.config, self.partition, self.tied_head]),
        }

    @property
    def digest(self) -> str:
        """One SHA-256 (hex) over weights, tokenizer and partition; exit heads and thresholds may differ."""
        return _sha256(self.digests)

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into `folder`, readable by people; one that is there is replaced at once."""
        text = msgspec.json.format(msgspec.json.encode(self), indent=2)
        fresh = folder / f"{MANIFEST_FILE}.new"
        with fresh.open("wb") as file:
            file.write(text + b"\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(folder / MANIFEST_FILE)


def read_manifest(folder: Path) -> Manifest:
    """Read and check `folder/manifest.json`.

    Raises:
        BundleError: it is missing, malformed, of another version, or contradicts itself.
    """
    path = folder / MANIFEST_FILE
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{folder} is no bundle: its {MANIFEST_FILE} can't be read ({error.strerror}). "
            "Make one with `antiphon model prepare CHECKPOINT --exits … --out BUNDLE`."
        ) from error
    _check_version(path, raw)
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{path} is malformed ({error}). Prepare the bundle again.") from error
    _check_consistent(path, manifest)
    return manifest


class _Version(msgspec.Struct):
    format_version: int


def _check_version(path: Path, raw: bytes) -> None:
    """Look at the version alone first: fields of a later format are no malformed manifest."""
    try:
        version = msgspec.json.decode(raw, type=_Version).format_version
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{path} is malformed ({error}). Prepare the bundle again.") from error
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path} is of format {version}; this Antiphon reads format {FORMAT_VERSION}. "
            "Prepare the bundle again with the Antiphon that will serve it."
        )


def _check_consistent(path: Path, manifest: Manifest) -> None:
    cut = manifest.partition
    if Partition.plan(cut.layers, cut.exits, cut.split) != cut:
        raise BundleError(f"{path}: exits and split contradict each other. Prepare the bundle again.")
    if tuple(entry.layer for entry in manifest.exits) != cut.exits:
        raise BundleError(f"{path}: exits and exit heads differ. Prepare the bundle again.")
    for key in ("hidden_size", "vocab_size"):
        if not isinstance(manifest.config.get(key), int):
            raise BundleError(f"{path}: the model's configuration lacks {key}. Prepare the bundle again.")
    for entry in manifest.exits:
        _check_head(path, entry)
    if missing := {EDGE_FILE, CLOUD_FILE, EXITS_FILE} - manifest.files.keys():
        raise BundleError(f"{path} names no {' or '.join(sorted(missing))}. Prepare the bundle again.")
    if escaping := [name for name in manifest.files if ".." in Path(name).parts or Path(name).is_absolute()]:
        raise BundleError(
            f"{path} names {escaping[0]}, which lies outside the bundle. Don't use this bundle."
        )


def _check_head(path: Path, entry: ExitEntry) -> None:
    if entry.head != "lora" and entry.rank is None:
        return
    if entry.head == "lora" and entry.lm_head == "shared" and (entry.rank or 0) >= 1:
        return
    raise BundleError(
        f"{path}: the exit after layer {entry.layer} contradicts itself: a rank of 1 or more belongs to the "
        "form lora over the shared LM head, and to nothing else. Tune or prepare the exits again."
    )


def _sha256(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()
