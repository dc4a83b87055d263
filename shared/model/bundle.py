"""A prepared model folder, opened and checked; weights stay on disk until a loader wants them."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from shared.errors import BundleError
from shared.model.calibration import Calibration
from shared.model.confidence import Measure
from shared.model.manifest import (
    CLOUD_FILE,
    EDGE_FILE,
    EXITS_FILE,
    TOKENIZER_FOLDER,
    Kind,
    Manifest,
    read_manifest,
)
from shared.model.partition import Partition

_HASH_CHUNK_BYTES = 1 << 20  # large enough that hashing, not reading, is the cost


class Bundle:
    """An opened bundle. Opening reads the manifest and looks at file sizes, nothing more.

    A host may hold only its own side's weights: the other side's file may be absent, but not wrong.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open the bundle in the folder `path`.

        Raises:
            BundleError: no bundle, a malformed manifest, or a file of the wrong size.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        bundle = cls(folder, manifest)
        for name in manifest.files:
            bundle._check_size(name)
        return bundle

    def verify(self) -> None:
        """Hash every file that is here against the manifest.

        Raises:
            BundleError: a file's content is not what was prepared.
        """
        for name, entry in self.manifest.files.items():
            file = self.path / name
            if file.exists() and file_sha256(file) != entry.sha256:
                raise BundleError(f"{file} has changed since it was prepared. {_FETCH_AGAIN}")

    def weight_file(self, name: str) -> Path:
        """The path of `edge.safetensors`, `exits.safetensors` or `cloud.safetensors`.

        Raises:
            BundleError: this host does not hold that file.
        """
        file = self.path / name
        if not file.exists():
            raise BundleError(f"{file} is missing: this bundle can't serve that side. {_FETCH_AGAIN}")
        return file

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over weights, tokenizer and partition: edge and cloud must hold the same."""
        return self.manifest.digest

    @property
    def partition(self) -> Partition:
        """The ladder of stages."""
        return self.manifest.partition

    @property
    def name(self) -> str:
        """The model's name, as a pool serves it."""
        return self.manifest.name

    @property
    def kind(self) -> Kind:
        """Whether the model answers with home actions or with free text."""
        return self.manifest.kind

    @property
    def hidden_size(self) -> int:
        """Width of one row of hidden states."""
        return int(self.manifest.config["hidden_size"])

    @property
    def vocab_size(self) -> int:
        """How many logits a head returns."""
        return int(self.manifest.config["vocab_size"])

    @property
    def max_positions(self) -> int:
        """The longest text, prompt and answer together, in tokens."""
        return self.manifest.max_positions

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Token ids that end an answer."""
        return self.manifest.eos_token_ids

    @property
    def thresholds(self) -> list[float]:
        """Default confidence threshold of each exit, in the ladder's order; settings may override."""
        return [entry.threshold for entry in self.manifest.exits]

    @property
    def temperatures(self) -> list[float]:
        """Temperature of each exit's confidence, in the ladder's order."""
        return [entry.temperature for entry in self.manifest.exits]

    @property
    def measures(self) -> list[Measure]:
        """What each exit's confidence is, in the ladder's order."""
        return [entry.measure for entry in self.manifest.exits]

    @property
    def calibration(self) -> Calibration | None:
        """The exits' trade-off; None if it was not measured, or for other exit heads than these."""
        found = self.manifest.calibration
        if found is None or found.exits_sha256 != self.manifest.files[EXITS_FILE].sha256:
            return None
        return found

    def tokenizer(self) -> Any:
        """The model's own fast tokenizer, chat template included; loaded once."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        folder = self.path / TOKENIZER_FOLDER
        try:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            raise BundleError(
                f"The tokenizer in {folder} can't be loaded: {error}. {_FETCH_AGAIN}"
            ) from error

    def _check_size(self, name: str) -> None:
        file, expected = self.path / name, self.manifest.files[name].size_bytes
        if not file.exists():
            if name in {EDGE_FILE, EXITS_FILE, CLOUD_FILE}:
                return
            raise BundleError(f"{file} is missing. {_FETCH_AGAIN}")
        if (actual := file.stat().st_size) != expected:
            raise BundleError(f"{file} has {actual} bytes instead of {expected}: cut short? {_FETCH_AGAIN}")


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


_FETCH_AGAIN = "Copy the bundle again, or prepare it again with `antiphon model prepare`."
