"""The report that all benches share."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from ops.bench.report import BenchReport, BenchTable, Samples, cell_text

REPORT = BenchReport(
    name="example",
    settings={"rounds": 3},
    columns=("row", "ms"),
    rows=[{"row": "slow", "ms": Samples.of([3.0, 1.0, 2.0])}, {"row": "unknown"}],
    summary={"slow_ms": 2.0},
    notes=["What [brackets] mean."],
    more=[BenchTable("others", ("name", "bytes"), [{"name": "a", "bytes": 65536}])],
)


def test_samples_keep_the_middle_and_the_spread() -> None:
    samples = Samples.of([4.0, 1.0, 2.0, 3.0])

    assert (samples.count, samples.median, samples.minimum, samples.maximum) == (4, 2.5, 1.0, 4.0)


def test_no_samples_are_an_error_not_a_figure() -> None:
    with pytest.raises(ValueError, match="no samples"):
        Samples.of([])


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, ""),
        ("words", "words"),
        (65536, "65536"),
        (65536.4, "65536"),
        (0.0, "0"),
        (0.012345, "0.0123"),
        (12.345, "12.3"),
        (Samples.of([1.0]), "1"),
        (Samples.of([1.0, 2.0, 9.25]), "2 (1–9.25)"),
    ],
)
def test_a_cell_shows_the_digits_that_mean_something(cell: Samples | float | str | None, text: str) -> None:
    assert cell_text(cell) == text


def test_all_tables_notes_and_figures_are_shown_as_they_are() -> None:
    out = io.StringIO()
    REPORT.show(Console(file=out, width=120))

    for expected in ("bench example", "2 (1–3)", "unknown", "65536", "What [brackets] mean.", "slow_ms 2"):
        assert expected in out.getvalue()


def test_the_json_says_where_the_figures_come_from(tmp_path: Path) -> None:
    REPORT.write_json(tmp_path / "report.json")
    read = json.loads((tmp_path / "report.json").read_text())

    assert read["rows"][0]["ms"] == {"count": 3, "median": 2.0, "minimum": 1.0, "maximum": 3.0}
    assert read["summary"] == {"slow_ms": 2.0}
    assert read["machine"]["cores"] >= 1
    assert read["versions"]["antiphon"]
    assert read["date"].endswith("+00:00")
    assert "commit" in read


def test_markdown_has_a_line_for_each_row(tmp_path: Path) -> None:
    REPORT.write_markdown(tmp_path / "report.md")
    lines = (tmp_path / "report.md").read_text().splitlines()

    assert "| row | ms |" in lines
    assert "| --- | --: |" in lines
    assert "| unknown |  |" in lines


def test_markdown_has_the_titles_and_says_how_the_tables_are_to_be_read(tmp_path: Path) -> None:
    titled = msgspec.structs.replace(REPORT, title="SCRIPTED: half of it")
    titled.write_markdown(tmp_path / "report.md")
    lines = (tmp_path / "report.md").read_text().splitlines()

    assert lines[0] == "SCRIPTED: half of it"
    assert lines.index("- What [brackets] mean.") < lines.index("others")
    assert lines[lines.index("- What [brackets] mean.") - 1] == "", (
        "a list behind a table needs a line of its own"
    )


def test_a_report_without_a_title_is_called_by_its_benchs_name(tmp_path: Path) -> None:
    REPORT.write_markdown(tmp_path / "report.md")

    assert (tmp_path / "report.md").read_text().startswith("bench example\n\n| row | ms |")
