"""Folders and files that appear whole, or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import BundleError


def refuse_existing(out: Path, *, force: bool) -> None:
    """Refuse to write where something is, before any work is done for it.

    Raises:
        BundleError: `out` exists and is not to be replaced.
    """
    if out.exists() and not force:
        raise BundleError(f"{out} exists. Choose another folder or use --force to replace it.")


def settle(fresh: Path, path: Path) -> None:
    """Let a file that was written beside `path` take its place, durably: either is whole after a crash."""
    _sync(fresh)
    fresh.replace(path)
    _sync(path.parent)


def _sync(place: Path) -> None:
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def new_folder(out: Path, *, force: bool) -> Iterator[Path]:
    """A folder beside `out` that becomes `out` when the block ends well, and vanishes when it does not."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        fresh = Path(scratch) / "bundle"
        fresh.mkdir()
        yield fresh
        if force and out.exists():
            out.rename(Path(scratch) / "replaced")
        fresh.rename(out)
