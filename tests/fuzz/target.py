"""A target: one decoder, what its input looks like, and what has to hold for whatever it is given."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from shared.errors import AntiphonError

CORPUS = Path(__file__).with_name("corpus")
# What is fuzzed, by module of `targets/`; a module's targets are named `module.decoder`.
MODULES = ("wire", "mqtt", "records", "device", "files", "tensors", "payloads")


class Target(NamedTuple):
    """One decoder.

    Attributes:
        name: `module.decoder`.
        check: takes any bytes. Returns when they decoded (and survived the way back), raises `AntiphonError`
            when they were refused. Whatever else comes out of it is a bug.
        seeds: valid messages, and those that once broke something.
        max_bytes: longest input that is tried.
        share: of the executions asked for; below 1 where one takes a hundred times longer than elsewhere.
        native: it is native code, which shows Atheris no coverage: its inputs are always chosen blindly.
    """

    name: str
    check: Callable[[bytes], object]
    seeds: Callable[[], Iterable[bytes]]
    max_bytes: int = 1024
    share: float = 1.0
    native: bool = False

    @property
    def corpus(self) -> Path:
        """Folder of its inputs, one per file."""
        return CORPUS / self.name

    def inputs(self) -> list[bytes]:
        """Its corpus, in a fixed order."""
        return [path.read_bytes() for path in sorted(self.corpus.iterdir())]


def targets_of(module: str) -> list[Target]:
    """The targets of one module."""
    found: list[Target] = importlib.import_module(f"tests.fuzz.targets.{module}").TARGETS
    return found


def every_target() -> Iterator[Target]:
    """All of them; imports torch."""
    for module in MODULES:
        yield from targets_of(module)


def target_named(name: str) -> Target:
    """The target of that name; imports nothing that the others need."""
    return next(target for target in targets_of(name.split(".", maxsplit=1)[0]) if target.name == name)


def same(again: Callable[[], object], before: object) -> None:
    """Fail when a value does not come back through bytes; a refusal of our own bytes is no refusal."""
    try:
        after = again()
    except AntiphonError as error:
        raise AssertionError(f"{before!r:.400} is written, but not read again: {error}") from error
    if after != before:
        raise AssertionError(f"{before!r:.400} came back as {after!r:.400}")
