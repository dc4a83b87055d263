"""The report of `bench weights`: what it names, and what makes it fail."""

from __future__ import annotations

from dataclasses import replace

from ops.bench.report import Samples
from ops.bench.weights.agreement import AgreementResult
from ops.bench.weights.outcome import broken_promises, report_of
from ops.bench.weights.speed import SpeedResult, measure_speed

NAMES = ("float32", "bfloat16", "int8", "int4")
AGREED = AgreementResult("home", "int8", 200, 0.995, 0.98)
ITSELF = AgreementResult("home", "float32", 200, 1.0, 1.0)


def speed(precision: str, milliseconds: float) -> SpeedResult:
    times = {count: Samples.of([milliseconds * count]) for count in (1, 8)}
    return SpeedResult(64, precision, 1.5, times, apart=True)


def test_every_precision_is_timed_and_keeps_rows_apart() -> None:
    found = measure_speed(64, NAMES, (1, 8), runs=2)
    assert [each.precision for each in found] == list(NAMES)
    assert all(each.milliseconds[8].count == 2 and each.milliseconds[8].minimum > 0 for each in found)
    quantised = [each for each in found if each.precision in {"int8", "int4"}]
    assert all(each.apart for each in quantised)
    sizes = [each.mib for each in found]
    assert sizes == sorted(sizes, reverse=True)


def test_the_summary_has_the_worst_agreement_and_the_time_over_float32() -> None:
    other = replace(AGREED, bundle="stories", agreement=0.97)
    report = report_of([speed("float32", 4.0), speed("int8", 1.0)], [ITSELF, AGREED, other], {})
    assert report.summary["int8_weights_agreement"] == 0.97
    assert report.summary["int8_over_float32_64_rows_8"] == 0.25
    assert [row["one layer"] for row in report.rows] == ["hidden 64, 1 row", "hidden 64, 8 rows"]


def test_an_outlier_that_reaches_another_row_fails_the_bench() -> None:
    assert broken_promises([speed("int8", 1.0)], [ITSELF, AGREED]) == []
    spoilt = replace(speed("int8", 1.0), apart=False)
    assert "int8 at 64" in broken_promises([spoilt], [ITSELF])[0]
    assert "itself" in broken_promises([], [replace(ITSELF, same_answers=0.99)])[0]
