"""The fault report: a row for each fault, and the three promises that are measured apart."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any, Self

import msgspec

from ops.faults.catalog import FAULTS
from ops.faults.outcome import Outcome
from ops.quality.range import Range


class FaultRow(msgspec.Struct, frozen=True):
    """All runs of one fault.

    Attributes:
        fault, target: see `Fault`.
        commit: by which code; see `ops.provenance.commit`.
        skipped: why it was not made; empty when it was.
        runs: made. struck: of them, those in which the fault came while answers were being made.
        answers: that came.
        mismatches, lost_or_doubled, failed_answers: counted over all runs; see `Outcome`.
        degraded_tokens: that the edge said alone.
        recovery_over_deadline: of each run, its longest time between two tokens as a multiple of
            `edge.deadline_s`; the middle, the least and the most.
        recovery_p99_over_deadline: of the same.
        peak_mib: the most memory of a process, by role.
        longest_wait_s: in which an asker heard nothing, from its question to its answer.
        overruns: waits and memory beyond their bounds, counted over all runs.
        errors: what was wrong, the first few.
    """

    fault: str
    target: str
    commit: str
    skipped: str = ""
    runs: int = 0
    struck: int = 0
    answers: int = 0
    mismatches: int = 0
    lost_or_doubled: int = 0
    failed_answers: int = 0
    degraded_tokens: int = 0
    recovery_over_deadline: Range | None = None
    recovery_p99_over_deadline: float = 0.0
    peak_mib: dict[str, float] = {}
    longest_wait_s: float = 0.0
    overruns: int = 0
    errors: list[str] = []


class FaultReport(msgspec.Struct, frozen=True):
    """A whole bench, or as much of it as is made.

    Attributes:
        machine, commit: where and by which code, if by several the last one. versions: of the servers.
        settings: the bench's options and the rig's deadlines.
        commits: those that made rows and promises, in their order.
        rows: in the catalog's order. must_show: by promise.
        summary: flat figures, over all rows.
    """

    machine: dict[str, str | int]
    commit: str
    versions: dict[str, str]
    settings: dict[str, Any]
    commits: list[str]
    rows: list[FaultRow]
    must_show: dict[str, dict[str, Any]]
    summary: dict[str, float]

    @classmethod
    def begun(
        cls, machine: dict[str, str | int], commit: str, versions: dict[str, str], settings: dict[str, Any]
    ) -> Self:
        """Of a bench that has made nothing yet."""
        return cls(machine, commit, versions, settings, [], [], {}, summary_of([]))

    def holding(self, rows: Sequence[FaultRow], must_show: dict[str, dict[str, Any]]) -> Self:
        """The same with these rows and promises, and with what follows from them."""
        rows = sorted(rows, key=lambda row: _ORDER[row.fault])
        made_by = [*(row.commit for row in rows), *(each.get("commit", "") for each in must_show.values())]
        commits = list(dict.fromkeys(filter(None, made_by)))
        return msgspec.structs.replace(
            self, commits=commits, rows=rows, must_show=must_show, summary=summary_of(rows)
        )


_ORDER = {name: place for place, name in enumerate(FAULTS)}
_ERRORS_KEPT = 5


def row_of(fault: str, target: str, commit: str, outcomes: Sequence[Outcome], deadline_s: float) -> FaultRow:
    """Runs of one fault as a row."""
    recovered = [outcome.recovery_s / deadline_s for outcome in outcomes if outcome.struck]
    errors = [
        f"seed {outcome.seed}, {outcome.sessions} sessions: {words}"
        for outcome in outcomes
        for words in (*outcome.mismatches, *outcome.failures, *outcome.overruns)
    ]
    return FaultRow(
        fault,
        target,
        commit,
        runs=len(outcomes),
        struck=sum(outcome.struck for outcome in outcomes),
        answers=sum(outcome.answers for outcome in outcomes),
        mismatches=sum(len(outcome.mismatches) for outcome in outcomes),
        lost_or_doubled=sum(outcome.lost_or_doubled for outcome in outcomes),
        failed_answers=sum(len(outcome.failures) for outcome in outcomes),
        degraded_tokens=sum(outcome.degraded_tokens for outcome in outcomes),
        recovery_over_deadline=Range.of(recovered) if recovered else None,
        recovery_p99_over_deadline=quantile(recovered, 0.99),
        peak_mib=_peaks(outcomes),
        longest_wait_s=max((outcome.longest_wait_s for outcome in outcomes), default=0.0),
        overruns=sum(len(outcome.overruns) for outcome in outcomes),
        errors=errors[:_ERRORS_KEPT],
    )


def summary_of(rows: Sequence[FaultRow]) -> dict[str, float]:
    """What is asked of every fault, in the worst case over all of them."""
    made = [row for row in rows if not row.skipped]
    return {
        "faults": float(len(made)),
        "runs": float(sum(row.runs for row in made)),
        "answers": float(sum(row.answers for row in made)),
        "mismatches": float(sum(row.mismatches for row in made)),
        "lost_or_doubled": float(sum(row.lost_or_doubled for row in made)),
        "failed_answers": float(sum(row.failed_answers for row in made)),
        "never_struck": float(sum(row.runs > 0 and row.struck == 0 for row in made)),
        "overruns": float(sum(row.overruns for row in made)),
        "recovery_p99_over_deadline": max((row.recovery_p99_over_deadline for row in made), default=0.0),
        "recovery_median_over_deadline": median(
            [row.recovery_over_deadline.median for row in made if row.recovery_over_deadline] or [0.0]
        ),
        "peak_mib": max((peak for row in made for peak in row.peak_mib.values()), default=0.0),
    }


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _peaks(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The most of each role: workers are alike."""
    peaks: dict[str, float] = {}
    for outcome in outcomes:
        for name, peak in outcome.peak_mib.items():
            role = name.partition("-")[0]
            peaks[role] = max(peaks.get(role, 0.0), round(peak, 1))
    return peaks
