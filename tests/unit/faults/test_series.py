"""A bench that goes on where it was stopped: what it keeps, what it makes, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from ops.commands.faults import faults
from ops.faults.catalog import FAULTS
from ops.faults.outcome import Outcome
from ops.faults.report import FaultReport, FaultRow, row_of
from ops.faults.report_file import ReportFile
from ops.faults.run import Fault
from ops.faults.series import Series
from shared.errors import ConfigError

FIRST, SECOND, THIRD, *_ = FAULTS.values()
SETTINGS = {"runs": 3, "seed": 0, "deadline_s": 6.0}
VERSIONS = {"antiphon": "1.0", "broker": "mosquitto 2.0"}


def begun(commit: str = "new", **other: Any) -> FaultReport:
    settings = {name: other.get(name, value) for name, value in SETTINGS.items()}
    versions = {name: other.get(name, value) for name, value in VERSIONS.items()}
    return FaultReport.begun({"cpu": other.get("cpu", "any")}, commit, versions, settings)


def row(fault: Fault, commit: str = "new", **fields: Any) -> FaultRow:
    return FaultRow(fault.name, fault.target, commit, **{"runs": 3, "answers": 12, **fields})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "faults.json"


@pytest.fixture
def file(path: Path) -> ReportFile:
    """What a run of an older commit left behind: the second fault."""
    made = ReportFile(path)
    Series(begun("old"), made).add(row(SECOND, "old", mismatches=1))
    return made


def resumed(file: ReportFile, **other: Any) -> Series:
    return Series.resumed(begun(**other), file)


# --- what is kept -------------------------------------------------------------------------------


def test_every_row_is_in_the_file_as_soon_as_it_is_made(path: Path) -> None:
    series = Series(begun(), ReportFile(path))
    for count, fault in enumerate((FIRST, SECOND), 1):
        series.add(row(fault))
        assert len(msgspec.json.decode(path.read_bytes(), type=FaultReport).rows) == count
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_rows_that_are_there_are_kept_and_only_the_others_are_missing(file: ReportFile) -> None:
    series = resumed(file)
    assert series.report.rows == [row(SECOND, "old", mismatches=1)]
    assert series.missing([FIRST, SECOND, THIRD]) == [FIRST, THIRD]


def test_new_rows_stand_among_the_old_ones_in_the_catalog_s_order(file: ReportFile) -> None:
    series = resumed(file)
    series.add(row(THIRD))
    series.add(row(FIRST))
    assert (found := file.read()) == series.report
    assert found is not None
    assert [each.fault for each in found.rows] == [FIRST.name, SECOND.name, THIRD.name]


def test_old_rows_count_in_the_summary(file: ReportFile) -> None:
    series = resumed(file)
    assert series.report.summary["mismatches"] == 1.0
    series.add(row(FIRST))
    assert (series.report.summary["faults"], series.report.summary["mismatches"]) == (2.0, 1.0)


def test_a_row_says_which_commit_made_it_and_the_report_names_them_all(file: ReportFile) -> None:
    series = resumed(file)
    series.add(row_of(FIRST.name, FIRST.target, "new", [outcome()], 3.0))
    assert [each.commit for each in series.report.rows] == ["new", "old"]
    assert (series.report.commit, series.report.commits) == ("new", ["new", "old"])


def test_promises_are_kept_one_by_one_with_the_commit_that_made_them(file: ReportFile) -> None:
    Series.resumed(begun("old"), file).promise("broker_gone", {"runs": 3})
    series = resumed(file)
    series.add(row(FIRST))
    series.promise("worker_killed", {"runs": 4})
    assert (found := file.read()) is not None
    assert found.must_show == {
        "broker_gone": {"runs": 3, "commit": "old"},
        "worker_killed": {"runs": 4, "commit": "new"},
    }


def test_a_skipped_fault_is_made_once_it_can_be(file: ReportFile) -> None:
    never = Fault(FIRST.name, FIRST.target, absent=lambda: "not installed")
    series = resumed(file)
    series.add(row(FIRST, skipped="not installed", runs=0, answers=0))
    assert series.missing([never]) == []
    assert series.missing([FIRST]) == [FIRST]
    series.add(row(FIRST))
    assert [each.skipped for each in series.report.rows] == ["", ""]


def test_without_a_file_yet_resuming_is_beginning(path: Path) -> None:
    series = resumed(ReportFile(path))
    assert series.report == begun()
    series.add(row(FIRST))
    assert path.exists()


def test_a_bench_that_is_begun_anew_leaves_the_old_file_until_it_has_a_row(file: ReportFile) -> None:
    before = file.path.read_bytes()
    series = Series(begun(), file)
    assert file.path.read_bytes() == before
    series.add(row(FIRST))
    assert [each.fault for each in series.report.rows] == [FIRST.name]


def test_a_file_behind_a_link_is_replaced_and_not_the_link(file: ReportFile) -> None:
    link = file.path.with_name("link.json")
    link.symlink_to(file.path)
    resumed(ReportFile(link)).add(row(FIRST))
    assert link.is_symlink()
    assert len(resumed(file).report.rows) == 2


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("runs", 20, "runs is 3 there and 20 here"),
        ("seed", 7, "seed is 0 there and 7 here"),
        ("deadline_s", 3.0, "deadline_s is 6.0 there and 3.0 here"),
        ("antiphon", "1.1", "antiphon is 1.0 there and 1.1 here"),
        ("broker", "embedded", "broker is mosquitto 2.0 there and embedded here"),
        ("cpu", "another", "cpu is any there and another here"),
    ],
)
def test_rows_of_another_bench_are_refused_with_what_differs_and_how_to_go_on(
    file: ReportFile, name: str, value: Any, words: str
) -> None:
    before = file.path.read_bytes()
    with pytest.raises(ConfigError) as refused:
        resumed(file, **{name: value})
    assert words in str(refused.value)
    assert "another --json FILE, or leave out --resume" in str(refused.value)
    assert file.path.read_bytes() == before


def test_everything_that_differs_is_named_at_once(file: ReportFile) -> None:
    with pytest.raises(ConfigError, match="runs is 3 there and 20 here; seed is 0 there and 7 here"):
        resumed(file, runs=20, seed=7)


def test_rows_of_faults_that_are_no_more_are_refused(file: ReportFile) -> None:
    text = file.path.read_text(encoding="utf-8")
    file.path.write_text(text.replace(SECOND.name, "moon fell down"), encoding="utf-8")
    with pytest.raises(ConfigError, match="'moon fell down' is no fault here"):
        resumed(file)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"machine": {}}',
        b'{"machine": {}, "commit": ["a", "b"], "versions": {}, "settings": {}, "rows": []}',
    ],
    ids=["empty", "no text", "list", "half", "by hand"],
)
def test_what_is_no_report_is_refused_in_a_sentence_and_left_alone(path: Path, broken: bytes) -> None:
    path.write_bytes(broken)
    with pytest.raises(ConfigError, match=r"faults\.json is no report .* leave out --resume to begin anew"):
        resumed(ReportFile(path))
    assert path.read_bytes() == broken


def test_a_report_that_was_cut_off_is_refused(file: ReportFile) -> None:
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="is no report"):
        resumed(file)


def test_a_place_that_can_t_be_written_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be written: No such file or directory"):
        ReportFile(tmp_path / "no folder" / "faults.json")
    with pytest.raises(ConfigError, match="is not a file"):
        ReportFile(tmp_path)


def test_resuming_without_a_file_is_refused_and_names_the_option() -> None:
    with pytest.raises(ConfigError, match="--json FILE"):
        faults(resume=True)


def outcome() -> Outcome:
    return Outcome(FIRST.name, 0, 1, True, 1, [], 0, [], 0, 0.1, {})
