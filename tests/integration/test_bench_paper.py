"""`bench paper` and `bench wan` at tiny sizes: real broker, link, worker, edge. Their times mean nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from ops.bench.paper import edge, run
from ops.bench.paper.forms import DRAFT_PLANS
from ops.bench.paper.plan import PaperPlan, quick_plan
from ops.bench.paper.wan import WanPlan, run_wan
from ops.bench.paper.wan_plot import draw_wan

ROWS = [edge.CLOUD_ONLY, edge.SELF_SPECULATION, edge.NAIVE, edge.INCREMENTAL, edge.CE_COLLM, edge.EDGE_ONLY]
SLOW_MS = (20, 60)

pytestmark = pytest.mark.timeout(400)


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
        other_rtts_ms=SLOW_MS,
        pairs=2,
        tune_tokens=4,
        embedded=True,
    )


@pytest.fixture(scope="module")
def outcome(plan: PaperPlan) -> run.Outcome:
    """One run, looked at from several sides."""
    return asyncio.run(run.run_paper(plan, tell))


def test_every_row_answers_and_every_promised_text_is_equal(outcome: run.Outcome, tmp_path: Path) -> None:
    report = outcome.report
    assert outcome.broken == []
    rows = {row["row"]: row for row in report.rows}
    assert {*ROWS, *edge.OURS} <= set(rows)
    # Every peer but the edge alone writes the unsplit model's text: unsure tokens are the cloud's in all.
    assert all(row["agrees %"] == 100 for name, row in rows.items() if name != edge.EDGE_ONLY)
    assert rows[edge.CE_COLLM]["asks %"] == rows[edge.BLOCKING]["asks %"] == pytest.approx(100 * 3 / 12)
    assert rows[edge.INCREMENTAL]["asks %"] == 100
    assert {"ours_over_cloud_3ms", "naive_over_cloud_3ms", "ours_over_cecollm_20ms"} <= set(report.summary)
    report.write_json(tmp_path / "paper.json")
    assert msgspec.json.decode((tmp_path / "paper.json").read_bytes())["settings"]["texts_equal"]


def test_a_page_says_in_its_tables_that_they_are_scripted(outcome: run.Outcome, tmp_path: Path) -> None:
    outcome.report.write_markdown(tmp_path / "paper.md")
    lines = (tmp_path / "paper.md").read_text().splitlines()
    assert "SCRIPTED: 27.7% requests" in lines[0]
    assert "50.0% of unsure guesses confirmed" in lines[0]
    assert any(line.startswith("- SCRIPTED: weights are random") for line in lines)
    assert all("SCRIPTED" in table.title or "home" in table.title for table in outcome.report.tables)


def test_slow_links_show_where_the_time_of_each_answer_went(outcome: run.Outcome) -> None:
    (spent,) = (table for table in outcome.report.more if "where the time" in table.title)
    named = [f"{rtt_ms} ms, pair {number}" for rtt_ms in SLOW_MS for number in (1, 2)]
    assert [row["answer"] for row in spent.rows] == named
    for row in spent.rows:
        parts = ("kept", "thrown away", "wait, refuted", "wait, else", "between")
        assert sum(float(str(row[part])) for part in parts) == pytest.approx(float(str(row["ours"])))


def test_slow_links_show_a_time_line(outcome: run.Outcome) -> None:
    tables = [table for table in outcome.report.more if "what happened when" in table.title]
    for rtt_ms, table in zip(SLOW_MS, tables, strict=True):
        assert f"at {rtt_ms} ms, 30 Mbit/s" in table.title
        assert {"ask", "reply", "edge-1"} <= {str(row["event"]) for row in table.rows}


def test_rivals_take_their_fastest_form_for_every_table(outcome: run.Outcome) -> None:
    """Two rates at 3 ms; the slow links, where only CE-CoLLM has forms; the home model."""
    both = {edge.SELF_SPECULATION, edge.CE_COLLM}
    forms = list(outcome.report.settings["forms"].values())
    assert [set(taken) for taken in forms] == [both, both, {edge.CE_COLLM}, {edge.CE_COLLM}, both]
    assert forms[0][edge.SELF_SPECULATION] in set(map(str, DRAFT_PLANS))
    assert sum(note.startswith(tuple(both)) for note in outcome.report.notes) == len(both)


async def test_rows_are_measured_on_every_link_and_drawn(plan: PaperPlan, tmp_path: Path) -> None:
    outcome = await run_wan(WanPlan(plan, rtts_ms=(1.0, 40.0), rates_mbit_s=(30.0,)), tell)
    assert outcome.broken == []
    links = ["1 ms, 30 Mbit/s", "40 ms, 30 Mbit/s"]
    assert [row["link"] for row in outcome.report.rows] == links
    slow = {curve.name: curve.points[-1][1] for curve in outcome.curves}
    assert slow[edge.INCREMENTAL] >= plan.new_tokens * 0.040, "every token waits for the round trip"
    draw_wan(tmp_path / "wan.svg", "links", outcome.curves, outcome.crossings)
    assert "<svg" in (tmp_path / "wan.svg").read_text()

    assert "SCRIPTED" in outcome.report.title
    both = {edge.SELF_SPECULATION, edge.CE_COLLM}
    assert {link: set(taken) for link, taken in outcome.report.settings["forms"].items()} == dict.fromkeys(
        links, both
    )
