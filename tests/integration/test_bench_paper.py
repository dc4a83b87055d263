"""`bench paper` and `bench wan` at tiny sizes: real broker, link, worker, edge. Their times mean nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ops.bench.paper import edge, run
from ops.bench.paper.plan import PaperPlan, quick_plan
from ops.bench.paper.wan import WanPlan, run_wan
from ops.bench.paper.wan_plot import draw_wan

ROWS = [edge.CLOUD_ONLY, edge.SELF_SPECULATION, edge.NAIVE, edge.INCREMENTAL, edge.CE_COLLM, edge.EDGE_ONLY]


def tell(_: str) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> PaperPlan:
    return quick_plan(
        cache=tmp_path_factory.mktemp("models"),
        confirmed=0.5,
        home_requests=1,
        long_tokens=0,
        new_tokens=12,
        naive_stride=4,
        tune_tokens=0,
        embedded=True,
    )


@pytest.mark.timeout(300)
async def test_every_row_answers_and_every_promised_text_is_equal(plan: PaperPlan, tmp_path: Path) -> None:
    outcome = await run.run_paper(plan, tell, timeline=True)
    report = outcome.report
    assert outcome.broken == []
    rows = {row["row"]: row for row in report.rows}
    assert {*ROWS, *edge.OURS} <= set(rows)
    # Every peer but the edge alone writes the unsplit model's text: unsure tokens are the cloud's in all.
    assert all(row["agrees %"] == 100 for name, row in rows.items() if name != edge.EDGE_ONLY)
    assert rows[edge.CE_COLLM]["asks %"] == rows[edge.BLOCKING]["asks %"] == pytest.approx(100 * 3 / 12)
    assert rows[edge.INCREMENTAL]["asks %"] == 100
    assert {"ours_over_cloud_3ms", "naive_over_cloud_3ms", "ours_over_cecollm_20ms"} <= set(report.summary)
    assert outcome.timeline is not None
    assert {"ask", "reply", "edge-1"} <= {event.what for event in outcome.timeline}
    report.write_json(tmp_path / "paper.json")
    assert msgspec.json.decode((tmp_path / "paper.json").read_bytes())["settings"]["texts_equal"]


@pytest.mark.timeout(300)
async def test_rows_are_measured_on_every_link_and_drawn(plan: PaperPlan, tmp_path: Path) -> None:
    outcome = await run_wan(WanPlan(plan, rtts_ms=(1.0, 40.0), rates_mbit_s=(30.0,)), tell)
    assert outcome.broken == []
    assert [row["link"] for row in outcome.report.rows] == ["1 ms, 30 Mbit/s", "40 ms, 30 Mbit/s"]
    slow = {curve.name: curve.points[-1][1] for curve in outcome.curves}
    assert slow[edge.INCREMENTAL] >= plan.new_tokens * 0.040, "every token waits for the round trip"
    draw_wan(tmp_path / "wan.svg", "links", outcome.curves, outcome.crossings)
    assert "<svg" in (tmp_path / "wan.svg").read_text()
