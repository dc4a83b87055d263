"""The quality report of a home model: actions, as a device would get them."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

import ops.home
from ops.cli import app
from ops.home.sample import load_exam
from ops.quality.sources import NATURAL, written
from shared.bundles import bundle_path
from shared.model.bundle import Bundle

EXAM = Path(__file__).parents[1] / "home" / "exam.jsonl"
HUT_REQUESTS = """\
{"home": "hut", "request": "on", "action": {"intent": "HassTurnOn", "slots": {"name": "Lantern"}}}
{"home": "hut", "request": "tell me a joke", "action": {"error": "not_a_command"}}
"""
HUT = """\
area: Hut
areas: [{name: Hut}]
entities: [{id: light.lantern, name: Lantern, area: Hut, state: "off"}]
"""
SUMMARY = {
    "full_exact", "edge_exact", "invalid_actions", "natural_exact", "edge_agreement",
    "wrong_actions_on_refusals",
}  # fmt: skip
AT99 = {
    "at99_agreement", "at99_edge_token_share", "at99_request_rate", "at99_cloud_time_share",
    "at99_cloud_flop_share", "at99_exact", "at99_exact_drop_points", "at99_uplink_bytes_per_token",
}  # fmt: skip


def test_the_requests_of_people_come_with_the_package():
    """Whoever installs a wheel has packages only."""
    assert NATURAL.is_relative_to(Path(ops.home.__file__).parent)
    assert len(written(NATURAL)) >= 300


def test_the_report_of_the_home_model_has_every_figure(tmp_path: Path):
    (tmp_path / "homes").mkdir()
    (tmp_path / "homes" / "hut.yaml").write_text(HUT)
    natural, report = tmp_path / "requests.jsonl", tmp_path / "report.json"
    natural.write_text(HUT_REQUESTS)
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
    refused = sum("error" in each.action for each in load_exam(EXAM)[:8])
    assert found["refusals"] == refused + 1  # the joke
    acted = {row["setting"]: row["wrong_actions_on_refusals"] for row in found["rows"]}
    assert all(0 <= count <= found["refusals"] for count in acted.values())
    assert found["summary"]["wrong_actions_on_refusals"] == acted["full model"]
    rows = {row["setting"]: row for row in found["rows"]}
    assert rows["full model"]["exact"] == rows["θ 1"]["exact"]
    assert 0.0 < rows["θ 1"]["forced_share"] < 1.0
