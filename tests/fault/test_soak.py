"""A short soak: devices ask without a pause while faults strike, and the report has it all."""

from __future__ import annotations

import msgspec
import pytest

from ops.faults.bench import FaultBench
from ops.faults.questions import KINDS
from ops.soak.devices import STANDALONE
from ops.soak.report import WRONG, SoakReport
from ops.soak.soak import SoakSettings, soak
from ops.soak.storm import PACED

# The rig's start, the storm, and its last answers, on a machine that others use too.
pytestmark = pytest.mark.timeout(300)

# Quick ones of each target, so that several strike.
FAULTS = ("worker killed, step", "everything twice", "5 % loss", "connections reset", "Redis flushed")


async def test_a_short_soak_passes_with_every_answer_right(bench: FaultBench) -> None:
    settings = SoakSettings(duration_s=20.0, seed=1, faults=FAULTS, warm_up_s=2.0, interval_s=0.5)
    report = await soak(bench, settings)
    assert (report.verdict, report.reasons, report.errors) == ("PASS", [], [])
    assert {figure: report.summary[figure] for figure in WRONG} == dict.fromkeys(WRONG, 0.0)
    _every_kind_of_question_was_answered(report)
    _the_faults_are_counted_by_name(report)
    _every_process_was_watched(report)
    written = msgspec.json.decode(msgspec.json.encode(report), type=SoakReport)
    assert (written.summary, written.memory) == (report.summary, report.memory)


def _every_kind_of_question_was_answered(report: SoakReport) -> None:
    assert report.kinds.keys() == {*KINDS, STANDALONE, PACED}
    assert sum(report.kinds.values()) == report.summary["answers"]


def _the_faults_are_counted_by_name(report: SoakReport) -> None:
    assert report.summary["faults"] == sum(strikes.struck for strikes in report.faults.values()) > 0
    assert all(name.startswith(FAULTS) for name in report.faults)


def _every_process_was_watched(report: SoakReport) -> None:
    assert [trend.role for trend in report.memory] == ["broker", "edge", "redis", "worker"]
    for trend in report.memory:
        assert trend.peak_mib > 1.0
        assert not trend.judged, "twenty seconds say nothing about an hour"
    edge = report.memory[1]
    assert edge.processes == 1
    assert edge.samples > 0
    assert edge.mib_per_h is not None
