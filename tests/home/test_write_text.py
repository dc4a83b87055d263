"""The text that tuning learns from: requests with answers."""

from __future__ import annotations

from pathlib import Path

from ops.home.write_text import write_text
from ops.tuning.text import documents


def test_generated_requests_read_as_prompts_with_answers(tmp_path: Path) -> None:
    write_text(tmp_path / "home.jsonl", count=40, seed=3)
    texts = list(documents([tmp_path / "home.jsonl"], "answer", "prompt"))
    assert len(texts) == 40
    assert all(text.prompt.endswith("=") and text.text[0] in "{[" for text in texts)
