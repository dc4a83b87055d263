"""Standard input as a file of the run, so that the run can go back in it and go on after a kill."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

from ops.folders import settle
from shared.errors import ConfigError

STDIN: Final = Path("-")
_CHUNK_BYTES: Final = 1 << 20
_TOKEN_BYTES: Final = 16  # more than a token has on average in any language; enough text for every budget


def on_disk(paths: Sequence[Path], folder: Path, *, json_lines: bool, tokens: int) -> list[Path]:
    """`paths` with `-` replaced by a file in `folder` that holds standard input.

    No more is read than `tokens` tokens need. A run that goes on finds the file and reads nothing.

    Raises:
        ConfigError: a path is no file, or standard input stands there twice.
    """
    if sum(path == STDIN for path in paths) > 1:
        raise ConfigError("--text - stands there twice; standard input can be read once.")
    for path in paths:
        if path != STDIN and not path.is_file():
            raise ConfigError(f"--text {path}: there is no such file. Give text or JSON-lines files, or -.")
    spooled = folder / ("stdin.jsonl" if json_lines else "stdin.txt")
    if STDIN in paths and not spooled.exists():
        _spool(sys.stdin.buffer, spooled, tokens * _TOKEN_BYTES)
    return [spooled if path == STDIN else path for path in paths]


def _spool(source: BinaryIO, path: Path, limit_bytes: int) -> None:
    """Copy whole lines until the source ends or the limit is passed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        while file.tell() < limit_bytes and (line := source.readline(_CHUNK_BYTES)):
            file.write(line)
    settle(fresh, path)


def forget(folder: Path) -> None:
    """Remove what was spooled for a run that is over."""
    for name in ("stdin.jsonl", "stdin.txt"):
        (folder / name).unlink(missing_ok=True)
