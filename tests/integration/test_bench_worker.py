"""`antiphon bench worker` in its small size: real workers, a real broker."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from ops.cli import app


def test_the_small_bench_measures_every_way_and_tokens_do_not_depend_on_the_batch(tmp_path: Path):
    out = tmp_path / "worker.json"
    result = CliRunner().invoke(app, ["bench", "worker", "--quick", "--embedded", "--json", str(out)])
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_bytes())
    assert [(row["workers"], row["sessions"]) for row in report["rows"]] == [
        (way, sessions) for way in ("packed", "one by one", "packed, 2 workers") for sessions in (1, 8)
    ]
    assert all(row["steps"] > 0 for row in report["rows"])
    assert report["summary"]["compared_tokens"] > 0
    assert report["summary"]["throughput_8_over_1"] > 0
