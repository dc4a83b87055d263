"""Text to learn from: plain files and JSON lines, read as a stream, packed by gzip or not."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from shared.errors import ConfigError

DEFAULT_FIELD: Final = "text"
_JSONL_SUFFIXES: Final = {".jsonl", ".ndjson"}
# Small enough that a short text still has blocks to hold out, large enough for several contexts.
_BLOCK_CHARS: Final = 4096


@dataclass(frozen=True)
class Document:
    """One text.

    Attributes:
        text: what is learned.
        prompt: what comes before it and is only read.
        ends: whether the text is over at its end, or a block of a longer one.
    """

    text: str
    prompt: str = ""
    ends: bool = True


def documents(
    paths: Sequence[Path], field: str | None = None, prompt_field: str | None = None
) -> Iterator[Document]:
    """The texts of all files, one file after another; never more than one of them in memory.

    `.jsonl` and `.ndjson` hold a document on each line; every other file is one running text, which comes
    in blocks cut at line ends. A further `.gz` is unpacked on the way.

    Args:
        paths: the files.
        field: where a line's JSON keeps its text, dotted (`turns.text`); lists on the way are flattened,
            and their texts joined by line ends. `DEFAULT_FIELD` if None.
        prompt_field: where it keeps what comes before the text, if anything does.

    Raises:
        ConfigError: a file can't be read, or a line has no such field.
    """
    for path in paths:
        with _opened(path) as file:
            if Path(path.name.removesuffix(".gz")).suffix in _JSONL_SUFFIXES:
                yield from _lines(path, file, field or DEFAULT_FIELD, prompt_field)
            else:
                yield from _blocks(file)


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        packed = path.name.endswith(".gz")
        with gzip.open(path, "rt", encoding="utf-8") if packed else path.open(encoding="utf-8") as file:
            yield file
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no UTF-8 text ({error.reason}). Convert it to UTF-8.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path} can't be read as text: {error}. Give a whole, readable file.") from error


def _blocks(file: TextIO) -> Iterator[Document]:
    while block := file.read(_BLOCK_CHARS):
        yield Document(block + file.readline(_BLOCK_CHARS), ends=False)


def _lines(path: Path, file: TextIO, field: str, prompt_field: str | None) -> Iterator[Document]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        record = _record(place, line)
        text = _text_at(place, record, field)
        prompt = "" if prompt_field is None else _text_at(place, record, prompt_field)
        if text:
            yield Document(text, prompt)


def _record(place: str, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{place} is no JSON ({error}). Give one JSON object on each line.") from error


def _text_at(place: str, record: Any, field: str) -> str:
    try:
        return "\n".join(_texts(record, field.split(".")))
    except LookupError:
        there = ", ".join(sorted(record)) if isinstance(record, dict) else "no object"
        raise ConfigError(
            f"{place} has no text in the field {field}; it has: {there}. Name the field with --jsonl-field "
            "(dotted, for example turns.text)."
        ) from None


def _texts(value: Any, keys: Sequence[str]) -> Iterator[str]:
    """All strings at the end of `keys`; null is no text, anything else a `LookupError`."""
    if isinstance(value, list):
        for each in value:
            yield from _texts(each, keys)
    elif not keys and isinstance(value, str):
        yield value
    elif keys and isinstance(value, dict) and keys[0] in value:
        yield from _texts(value[keys[0]], keys[1:])
    elif keys or value is not None:
        raise LookupError
