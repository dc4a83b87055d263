"""Writes the corpus: each target's seeds, one file each, named by what is in them."""

from __future__ import annotations

import hashlib

from tests.fuzz.target import Target, every_target


def write_corpus() -> None:
    """Bring every target's folder to its seeds; what is no seed any more goes."""
    for target in every_target():
        files = seed_files(target)
        target.corpus.mkdir(parents=True, exist_ok=True)
        for path in target.corpus.iterdir():
            if path.name not in files:
                path.unlink()
        for name, data in files.items():
            (target.corpus / name).write_bytes(data)


def seed_files(target: Target) -> dict[str, bytes]:
    """A target's seeds by file name."""
    return {hashlib.sha256(data).hexdigest()[:12]: data for data in target.seeds()}
