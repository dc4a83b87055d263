"""What the split bench says about rounds that were measured."""

from __future__ import annotations

import pytest

from ops.bench.report import Samples
from ops.bench.split.measure import CASES, QUICK_CASES, CaseResult, Round, SplitCase
from ops.bench.split.outcome import mismatches, report_of, summary_of
from ops.bench.split.timeline import timeline

PIECES = {"edge": 5.0, "away": 6.5, "cloud": 5.0}
UNSPLIT = {"edge": 4.0, "cloud": 5.0, "codec": 0.25}


def result(*rounds: Round, name: str = "tiny") -> CaseResult:
    return CaseResult(SplitCase(name, CASES[0].shape, 9, len(rounds)), list(rounds), UNSPLIT)


def one(split_ms: float, unsplit_ms: float, wrong: str = "") -> Round:
    return Round(split_ms, PIECES, unsplit_ms, wrong)


def test_overhead_and_ratio_are_taken_round_by_round():
    """A moment in which the machine is slow hits both sides of a round, and no other round."""
    found = summary_of([result(one(12.0, 10.0), one(33.0, 30.0), one(11.0, 10.0))])

    assert found["split_overhead_ms_tiny"] == 2.0
    assert found["split_ratio_tiny"] == pytest.approx(1.1)


def test_a_wrong_text_is_told_and_counted():
    results = [result(one(1.0, 1.0), one(1.0, 1.0, "'w1' instead of 'w2'"))]

    assert mismatches(results) == ["tiny: 'w1' instead of 'w2'"]
    assert summary_of(results)["split_text_mismatches"] == 1
    assert report_of(results, {}).rows[0]["text"] == "differs"


def test_the_pieces_of_a_token_add_up_to_it():
    table = timeline(result(one(12.0, 9.0)))
    split = [float(str(row["split ms"])) for row in table.rows]

    assert sum(split[:-1]) == pytest.approx(split[-1]) == 12.0


def test_encoding_stands_apart_from_the_stages():
    rows = {str(row["piece"]): row for row in timeline(result(one(12.0, 9.0))).rows}

    assert rows["edge: encoding, and decoding in the cloud"]["overhead ms"] == 0.25
    assert rows["edge: stages"]["split ms"] == pytest.approx(5.0 - 0.25)


def test_spread_is_shown():
    (row,) = report_of([result(one(12.0, 10.0), one(14.0, 10.0))], {}).rows

    assert row["overhead ms"] == Samples(2, 3.0, 2.0, 4.0)


def test_a_smoke_run_has_the_names_of_a_whole_one():
    assert [case.name for case in QUICK_CASES] == [case.name for case in CASES] == ["tiny", "270m"]
