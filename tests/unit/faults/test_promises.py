"""What ends a bench with an error: a wrong answer, a time promise that is broken, a fault that never came."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ops.faults.catalog import FAULTS
from ops.faults.outcome import Outcome
from ops.faults.promises import promises_broken
from ops.faults.report import FaultReport, FaultRow, row_of

FAULT, *_ = FAULTS.values()
TIMES = {"median": 0.1, "least": 0.1, "most": 0.1}
GONE = {
    "runs": 3,
    "mismatches": 0,
    "deadline_s": 3.0,
    "struck": 3,
    "next_token_s": TIMES,
    "collaborating_again_s": TIMES,
}
KILLED = {"runs": 3, "mismatches": 0, "deadline_s": 3.0, "struck": 3, "wait_s": TIMES}
ROLLING = {"rounds": 1, "sessions": 16, "answers": 40, "failures": 0, "mismatches": 0}
KEPT: dict[str, dict[str, Any]] = {"broker_gone": GONE, "worker_killed": KILLED, "rolling_restart": ROLLING}


def row(**fields: Any) -> FaultRow:
    return FaultRow(FAULT.name, FAULT.target, "new", **{"runs": 3, "struck": 3, "answers": 12, **fields})


def report(*rows: FaultRow, **promises: dict[str, Any]) -> FaultReport:
    begun = FaultReport.begun({}, "new", {}, {})
    return begun.holding(rows, {name: {**KEPT[name], **figures} for name, figures in promises.items()})


def test_a_report_without_a_fault_in_it_breaks_nothing() -> None:
    assert promises_broken(report(row(), **{name: {} for name in KEPT})) == []
    assert promises_broken(report(row(runs=0, struck=0, skipped="not installed"))) == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mismatches": 2}, "2 answers unlike"),
        ({"lost_or_doubled": 1}, "1 tokens or answers lost"),
        ({"failed_answers": 4}, "4 answers failed"),
        ({"overruns": 1}, "1 waits or memory"),
        ({"struck": 0}, "it never struck, in 3 runs"),
    ],
)
def test_a_row_that_is_not_as_it_has_to_be_is_named(fields: dict[str, Any], words: str) -> None:
    (broken,) = promises_broken(report(row(**fields)))
    assert broken.startswith(f"{FAULT.name}: {words}")


@pytest.mark.parametrize(
    ("promise", "figures", "words"),
    [
        ("broker_gone", {"mismatches": 1}, "1 mismatches"),
        ("broker_gone", {"next_token_s": TIMES | {"most": 3.6}}, "next_token_s is 3.60 at most"),
        ("broker_gone", {"next_token_s": None, "struck": 0}, "next_token_s was not measured"),
        ("broker_gone", {"collaborating_again_s": TIMES | {"most": 5.1}}, "collaborating_again_s is 5.10"),
        ("worker_killed", {"wait_s": TIMES | {"most": 4.1}}, "wait_s is 4.10 at most, and may be 4.00"),
        ("worker_killed", {"wait_s": None, "struck": 0}, "wait_s was not measured"),
        ("rolling_restart", {"failures": 2}, "2 failures"),
        ("rolling_restart", {"answers": 3}, "3 answers, fewer than 16 sessions"),
    ],
)
def test_a_promise_that_is_broken_is_named(promise: str, figures: dict[str, Any], words: str) -> None:
    (broken,) = promises_broken(report(**{promise: figures}))
    assert broken.startswith(f"{promise}: {words}")


def test_a_wait_just_within_the_deadline_and_a_token_keeps_the_promise() -> None:
    assert promises_broken(report(broker_gone={"next_token_s": TIMES | {"most": 3.4}})) == []


def test_overruns_of_runs_are_counted_and_quoted_in_their_row_and_the_summary() -> None:
    calm = Outcome(FAULT.name, 0, 1, True, 1, [], 0, [], 0, 0.1, {}, longest_wait_s=2.0)
    late = msgspec.structs.replace(calm, seed=1, longest_wait_s=30.0, overruns=["nothing was heard"])
    made = row_of(FAULT.name, FAULT.target, "new", [calm, late], 3.0)
    assert (made.overruns, made.longest_wait_s) == (1, 30.0)
    assert made.errors == ["seed 1, 1 sessions: nothing was heard"]
    assert report(made).summary["overruns"] == 1.0


def test_a_fault_that_never_struck_is_counted_in_the_summary() -> None:
    assert report(row(struck=0)).summary["never_struck"] == 1.0
    assert report(row(struck=1)).summary["never_struck"] == 0.0
