"""Bundles and oracle for all fault tests; `FAULT_RUNS=20` makes more runs of each (`make chaos`)."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ops.faults.bench import FaultBench
from tests.conftest import need_binary

RUNS = int(os.environ.get("FAULT_RUNS", "2"))
SEED = int(os.environ.get("FAULT_SEED", "0"))
# Starting a rig, then runs with a deadline or two each; these machines are shared.
TIMEOUT_S = 90 + 60 * RUNS
# A busy machine must not look like a lost cloud: longer than an installation's own.
DEADLINE_S = 6.0
HERE = "tests/fault"


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultBench]:
    """Tiny bundles and their oracle."""
    need_binary("redis-server", "redis-server")
    made = FaultBench(tmp_path_factory.mktemp("faults"), deadline_s=DEADLINE_S)
    yield made
    made.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How long these tests took, which has to be minutes; on a busy machine it may be more."""
    took_s = sum(
        report.duration
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.nodeid.startswith(HERE)
    )
    if took_s:
        terminalreporter.write_line(f"{HERE} took {took_s:.0f} s with {RUNS} runs of each fault")
