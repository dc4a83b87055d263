"""The start bench's report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, Final

from ops.bench.report import BenchReport, BenchTable, Row, Samples
from ops.bench.start.measure import ROLES, Start, StartResult
from ops.bench.start.phases import Phase

COLUMNS: Final = (
    "bundle",
    "worker ready s",
    "edge ready s",
    "first token s",
    "cold ms",
    "warm ms",
)
OVER_WEIGHTS: Final = "(peak − imports) / weights"
TIMES_NOTE: Final = (
    "Fresh interpreters each round; files are in the page cache. ready: from the launch to presence at the "
    "broker. first token: from the edge's launch. cold: from the first prompt to its first token, forced "
    "ones left out; warm: of the prompts after it."
)
MEMORY_NOTE: Final = (
    "weights: the role's files as stored. imports: resident before any weight is read. peak: VmHWM after all "
    "prompts. mapped: views of files, which the system may drop and processes share."
)


def report_of(results: Sequence[StartResult], settings: Mapping[str, Any]) -> BenchReport:
    """All bundles."""
    return BenchReport(
        "start",
        settings,
        COLUMNS,
        [_times(result) for result in results],
        summary_of(results),
        (TIMES_NOTE, MEMORY_NOTE),
        [_memory_table(results), *(_phase_table(result) for result in results)],
    )


def summary_of(results: Sequence[StartResult]) -> dict[str, float]:
    """Medians by bundle."""
    figures: dict[str, float] = {}
    for result in results:
        name = result.case.name
        figures[f"start_edge_ready_s_{name}"] = _median(result, lambda start: start.ready_s["edge"])
        figures[f"start_worker_ready_s_{name}"] = _median(result, lambda start: start.ready_s["worker"])
        figures[f"first_token_from_launch_s_{name}"] = _median(result, lambda start: start.launch_to_token_s)
        figures[f"first_token_cold_ms_{name}"] = _median(result, lambda start: start.prompt_to_token_ms)
        figures[f"first_token_warm_ms_{name}"] = _median(result, lambda start: median(start.warm_ms))
        for role in ROLES:
            figures[f"{role}_peak_over_weights_{name}"] = round(_over_weights(result, role), 4)
    return figures


def _median(result: StartResult, figure: Callable[[Start], float]) -> float:
    return round(median(figure(start) for start in result.starts), 4)


def _times(result: StartResult) -> Row:
    starts = result.starts
    return {
        "bundle": result.case.name,
        "worker ready s": Samples.of([start.ready_s["worker"] for start in starts]),
        "edge ready s": Samples.of([start.ready_s["edge"] for start in starts]),
        "first token s": Samples.of([start.launch_to_token_s for start in starts]),
        "cold ms": Samples.of([start.prompt_to_token_ms for start in starts]),
        "warm ms": Samples.of([each for start in starts for each in start.warm_ms]),
    }


def _memory_table(results: Sequence[StartResult]) -> BenchTable:
    columns = (
        "process",
        "weights MiB",
        "imports MiB",
        "peak MiB",
        "mapped MiB",
        OVER_WEIGHTS,
    )
    rows = [_memory(result, role) for result in results for role in ROLES]
    return BenchTable("memory", columns, rows)


def _memory(result: StartResult, role: str) -> Row:
    return {
        "process": f"{result.case.name}, {role}",
        "weights MiB": result.case.weights_mib(role),
        "imports MiB": _imports_mib(result, role),
        "peak MiB": Samples.of([start.memory[role].peak for start in result.starts]),
        "mapped MiB": Samples.of([start.memory[role].mapped for start in result.starts]),
        OVER_WEIGHTS: _over_weights(result, role),
    }


def _over_weights(result: StartResult, role: str) -> float:
    """What a role has beyond its imports, over the weights that it must hold."""
    peak = median(start.memory[role].peak for start in result.starts)
    return (peak - _imports_mib(result, role)) / result.case.weights_mib(role)


def _imports_mib(result: StartResult, role: str) -> float:
    """Resident before any weight is read."""
    return median(_before_weights(phases).memory.peak for phases in result.phases[role])


def _before_weights(phases: Sequence[Phase]) -> Phase:
    names = [phase.name for phase in phases]
    return phases[names.index("weights") - 1]


def _phase_table(result: StartResult) -> BenchTable:
    rows = [row for role in ROLES for row in _phase_rows(role, result.phases[role])]
    columns = ("phase", "s", "CPU s", "peak MiB")
    return BenchTable(f"a start taken apart, {result.case.name}", columns, rows)


def _phase_rows(role: str, rounds: Sequence[Sequence[Phase]]) -> list[Row]:
    """One row a phase, over all rounds."""
    return [
        {
            "phase": f"{role}: {same[0].name}",
            "s": Samples.of([phase.wall_s for phase in same]),
            "CPU s": Samples.of([phase.cpu_s for phase in same]),
            "peak MiB": median(phase.memory.peak for phase in same),
        }
        for same in zip(*rounds, strict=True)
    ]
