"""The split bench's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from ops.bench.report import BenchReport, Row, Samples
from ops.bench.split.measure import CaseResult
from ops.bench.split.timeline import timeline

COLUMNS: Final = (
    "model",
    "parameters",
    "split ms",
    "unsplit ms",
    "overhead ms",
    "ratio",
    "text",
)
SIDES_NOTE: Final = (
    "ms per token after the first. split: the product with every token asked of the cloud (threshold 1.0, "
    "no lookahead, fp32 states), edge and worker in processes and on cores of their own where there are two. "
    "unsplit: the same stages and head in one process, the mean over the same cores."
)
HEADS_NOTE: Final = (
    "No exit's head runs: a threshold of 1.0 can never be sure, and what the exit thinks is only wanted "
    "if the cloud does not answer."
)


def report_of(results: Sequence[CaseResult], settings: Mapping[str, Any]) -> BenchReport:
    """All cases."""
    return BenchReport(
        "split",
        settings,
        COLUMNS,
        [_row(result) for result in results],
        summary_of(results),
        (SIDES_NOTE, HEADS_NOTE),
        [timeline(result) for result in results],
    )


def mismatches(results: Sequence[CaseResult]) -> list[str]:
    """What is wrong with texts, in words."""
    return [f"{result.case.name}: {each.wrong}" for result in results for each in result.rounds if each.wrong]


def summary_of(results: Sequence[CaseResult]) -> dict[str, float]:
    """Overhead and ratio of each model, and how many texts were wrong."""
    figures: dict[str, float] = {}
    for result in results:
        figures[f"split_overhead_ms_{result.case.name}"] = round(median(_overheads(result)), 4)
        figures[f"split_ratio_{result.case.name}"] = round(median(_ratios(result)), 4)
    return figures | {"split_text_mismatches": float(len(mismatches(results)))}


def _row(result: CaseResult) -> Row:
    return {
        "model": result.case.name,
        "parameters": f"{result.case.shape.parameters / 1e6:.0f} M",
        "split ms": Samples.of([each.split_ms for each in result.rounds]),
        "unsplit ms": Samples.of([each.unsplit_ms for each in result.rounds]),
        "overhead ms": Samples.of(_overheads(result)),
        "ratio": Samples.of(_ratios(result)),
        "text": "differs" if any(each.wrong for each in result.rounds) else "equal",
    }


def _overheads(result: CaseResult) -> list[float]:
    return [each.split_ms - each.unsplit_ms for each in result.rounds]


def _ratios(result: CaseResult) -> list[float]:
    return [each.split_ms / each.unsplit_ms for each in result.rounds]
