"""What the start bench says about starts that were measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ops.bench.memory import Memory
from ops.bench.start.measure import Start, StartCase, StartResult
from ops.bench.start.outcome import OVER_WEIGHTS, report_of, summary_of
from ops.bench.start.phases import Phase


@dataclass(frozen=True)
class Weighed(StartCase):
    """A case whose roles hold 100 MiB each."""

    def weights_mib(self, role: str) -> float:
        return 100.0


def phases(imports_mib: float) -> list[Phase]:
    peaks = {"interpreter": 10.0, "torch": imports_mib, "weights": 900.0, "first forward": 900.0}
    return [Phase(name, 1.0, 0.5, Memory(peak, peak, 0.0)) for name, peak in peaks.items()]


def start(edge_peak: float, token_ms: float) -> Start:
    memory = {"edge": Memory(edge_peak, 1.0, 1.0), "worker": Memory(500.0, 1.0, 1.0)}
    return Start({"edge": 3.0, "worker": 4.0}, 3.5, token_ms, [10.0, 12.0, 50.0], memory)


RESULT = StartResult(
    Weighed("tiny", Path(), "x", 3, 3),
    [start(450.0, 30.0), start(440.0, 20.0), start(470.0, 90.0)],
    {"edge": [phases(300.0)] * 3, "worker": [phases(400.0)] * 3},
)


def test_medians_are_the_figures():
    found = summary_of([RESULT])

    assert found["first_token_cold_ms_tiny"] == 30.0
    assert found["first_token_warm_ms_tiny"] == 12.0
    assert (found["start_edge_ready_s_tiny"], found["start_worker_ready_s_tiny"]) == (3.0, 4.0)


def test_memory_is_compared_with_the_weights_without_what_imports_take():
    found = summary_of([RESULT])

    assert found["edge_peak_over_weights_tiny"] == 1.5
    assert found["worker_peak_over_weights_tiny"] == 1.0


def test_every_phase_of_both_roles_has_a_row():
    report = report_of([RESULT], {})
    memory, parts = report.more

    assert [row["process"] for row in memory.rows] == ["tiny, edge", "tiny, worker"]
    assert memory.rows[0][OVER_WEIGHTS] == 1.5
    assert [row["phase"] for row in parts.rows][:2] == ["edge: interpreter", "edge: torch"]
    assert len(parts.rows) == 8
