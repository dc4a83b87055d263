"""Reading text: every kind of file that is taken, and every one that is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ops.tuning.text import Document, documents
from shared.errors import ConfigError


def write_lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_plain_text_comes_in_blocks_that_make_it_whole_again(tmp_path: Path) -> None:
    text = "".join(f"line {number} of a long text\n" for number in range(2000))
    (tmp_path / "long.txt").write_text(text)
    blocks = list(documents([tmp_path / "long.txt"]))
    assert len(blocks) > 5
    assert "".join(block.text for block in blocks) == text
    assert all(block.text.endswith("\n") and not block.ends for block in blocks)


def test_a_text_without_line_ends_is_never_read_whole(tmp_path: Path) -> None:
    (tmp_path / "flat.txt").write_text("x" * 100_000)
    assert max(len(block.text) for block in documents([tmp_path / "flat.txt"])) < 10_000


def test_json_lines_give_a_document_each_and_blank_lines_none(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", {"text": "one"}, {"text": ""}, {"text": "two"})
    path.write_text(path.read_text() + "\n  \n")
    assert list(documents([path])) == [Document("one"), Document("two")]


def test_a_dotted_field_flattens_the_lists_on_its_way(tmp_path: Path) -> None:
    turns = [{"text": "hello"}, {"text": None}, {"text": ["good", "day"]}]
    path = write_lines(tmp_path / "a.jsonl", {"chat": {"turns": turns}})
    assert [document.text for document in documents([path], "chat.turns.text")] == ["hello\ngood\nday"]


def test_a_prompt_field_is_kept_apart(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", {"ask": "lights?", "answer": "on"})
    assert list(documents([path], "answer", "ask")) == [Document("on", "lights?")]


def test_packed_files_read_like_unpacked_ones_and_files_follow_one_another(tmp_path: Path) -> None:
    plain = write_lines(tmp_path / "a.jsonl", {"text": "one"})
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"text": "two"}\n'))
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"three"))
    texts = [document.text for document in documents([plain, packed, tmp_path / "c.txt.gz"])]
    assert texts == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"body": "x", "id": 3}\n', r"line 1 has no text in the field text; it has: body, id"),
        ("a.jsonl", b'{"text": "x"}\n{"text": 3}\n', "line 2 has no text in the field text"),
        ("a.jsonl", b"[3]\n", "has no text in the field text"),
        ("a.jsonl", b"{oops\n", "line 1 is no JSON"),
        ("a.txt", b"\xff\xfe\x00", "no UTF-8"),
        ("a.txt.gz", b"not packed", "can't be read as text"),
        ("a.txt.gz", gzip.compress(b"cut short" * 1000)[:-20], "can't be read as text"),
    ],
)
def test_a_file_that_holds_no_text_is_refused_with_its_place(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        list(documents([tmp_path / name]))
