"""Generated requests with their answers as JSON lines: text for `antiphon model tune-exits`."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from ops.home.samples import SampleMaker
from ops.home.templates import Grammar


def write_text(path: Path, count: int, seed: int) -> None:
    """Write `count` requests of training's side, each with `prompt` and `answer`."""
    maker = SampleMaker(Grammar(), seed)
    with path.open("wb") as file:
        for sample in (maker.draw() for _ in range(count)):
            file.write(msgspec.json.encode({"prompt": sample.prompt, "answer": sample.answer}) + b"\n")


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="the file to write")
    parser.add_argument("--count", type=int, default=30_000, help="how many requests")
    parser.add_argument("--seed", type=int, default=1, help="of the requests")
    given = parser.parse_args()
    write_text(given.path, given.count, given.seed)


if __name__ == "__main__":
    _main()
