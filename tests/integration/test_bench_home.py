"""The quality report of a home model: actions, as a device would get them."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from ops.cli import app
from shared.bundles import bundle_path
from shared.model.bundle import Bundle

EXAM = Path(__file__).parents[1] / "home" / "exam.jsonl"
NATURAL = """\
{"home": "hut", "request": "on", "action": {"intent": "HassTurnOn", "slots": {"name": "Lantern"}}}
{"home": "hut", "request": "tell me a joke", "action": {"error": "not_a_command"}}
"""
HUT = """\
area: Hut
areas: [{name: Hut}]
entities: [{id: light.lantern, name: Lantern, area: Hut, state: "off"}]
"""
SUMMARY = {"full_exact", "edge_exact", "invalid_actions", "natural_exact", "edge_agreement"}
AT99 = {
    "at99_agreement", "at99_edge_token_share", "at99_request_rate", "at99_cloud_time_share",
    "at99_cloud_flop_share", "at99_exact", "at99_exact_drop_points", "at99_uplink_bytes_per_token",
}  # fmt: skip


def test_the_report_of_the_home_model_has_every_figure(tmp_path: Path):
    (tmp_path / "homes").mkdir()
    (tmp_path / "homes" / "hut.yaml").write_text(HUT)
    natural, report = tmp_path / "requests.jsonl", tmp_path / "report.json"
    natural.write_text(NATURAL)
    arguments = ["bench", "quality", "home", "--text", EXAM, "--count", 8, "--natural", natural]
    options = ["--timed", 1, "--rounds", 1, "--json", report]
    result = CliRunner().invoke(app, [str(each) for each in (*arguments, *options)])
    assert result.exception is None, result.output
    found = json.loads(report.read_bytes())
    has_99 = any(
        level.agreement >= 0.99
        for level in getattr(Bundle.open(bundle_path("home")).calibration, "levels", ())
    )
    assert set(found["summary"]) == (SUMMARY | AT99 if has_99 else SUMMARY)
    assert (found["requests"], found["natural_requests"]) == (8, 2)
    assert found["summary"]["invalid_actions"] == 0  # the grammar leaves no room for them
    rows = {row["setting"]: row for row in found["rows"]}
    assert rows["full model"]["exact"] == rows["θ 1"]["exact"]
    assert 0.0 < rows["θ 1"]["forced_share"] < 1.0
