"""What `bench worker` makes of its measurements."""

from __future__ import annotations

import pytest

from cloud_worker.work import Work
from ops.bench.worker.measure import Drawn, Level, Measured, Prefill, SessionMemory
from ops.bench.worker.one_by_one import OneByOne
from ops.bench.worker.outcome import report_of, texts_differ
from shared.wire.topics import SessionAddress


def level(way: str, sessions: int, tokens_per_s: float, p99_ms: float = 30.0) -> Level:
    return Level(way, sessions, tokens_per_s, p50_ms=10.0, p99_ms=p99_ms, steps=100)


def measured(drawn: Drawn) -> Measured:
    levels = [
        level("packed", 1, 20.0),
        level("packed", 8, 100.0, p99_ms=25.0),
        level("one by one", 1, 20.0),
        level("one by one", 8, 25.0),
        level("packed, 2 workers", 1, 20.0),
        level("packed, 2 workers", 8, 150.0),
    ]
    prefill = Prefill(level("no prompt", 4, 50.0), level("beside", 4, 30.0), 4096, 12.0)
    return Measured(levels, prefill, SessionMemory(32, 16, 1 << 20, 1.2 * (1 << 20)), drawn)


def test_the_summary_holds_ratios_within_the_run():
    report = report_of(measured(Drawn()), {}, "not pinned")
    assert report.summary["throughput_8_over_1"] == pytest.approx(5.0)
    assert report.summary["p99_over_p50_8"] == pytest.approx(2.5)
    assert report.summary["packed_over_one_by_one_8"] == pytest.approx(4.0)
    assert report.summary["two_workers_over_one_8"] == pytest.approx(1.5)
    assert report.summary["p99_beside_prefill_over_p50"] == pytest.approx(3.0)
    assert [row["over 1 session"] for row in report.rows] == [1.0, 5.0, 1.0, 1.25, 1.0, 7.5]


def test_a_level_in_which_no_step_ended_is_no_division_by_zero():
    nothing = measured(Drawn())
    nothing.levels[0] = Level("packed", 1, 0.0, 0.0, 0.0, 0)
    assert report_of(nothing, {}, "").summary["throughput_8_over_1"] == 0.0


def test_tokens_are_compared_by_session_and_position():
    drawn = Drawn()
    drawn.note(0, {5: 1, 6: 2})
    drawn.note(1, {5: 9})
    drawn.note(0, {5: 1, 6: 3})
    assert (drawn.compared, drawn.different) == (5, 1)


def test_a_near_tie_is_passed_over_and_a_wrong_batch_is_not():
    assert not texts_differ(measured(Drawn(compared=5000, different=1)))
    assert texts_differ(measured(Drawn(compared=5000, different=6)))
    assert texts_differ(measured(Drawn(compared=100, different=2)))


def test_one_by_one_hands_out_a_session_at_a_time():
    scheduler = OneByOne()
    for name in "ab":
        scheduler.add(Work(SessionAddress("home", "hub", name), 1, 1, 0, 1, "fp16", b""))
    scheduler.add(Work(SessionAddress("home", "hub", "long"), 1, 1, 0, 40, "fp16", b""))
    batches = iter(lambda: scheduler.next_batch(16), [])
    assert [{w.address.session for w in batch} for batch in batches] == [{"a"}, {"b"}, *[{"long"}] * 3]
