"""The three promises: a broker that goes in mid-answer, a worker that dies, a pool that restarts."""

from __future__ import annotations

import pytest

from ops.faults.bench import FaultBench
from ops.faults.must_show import broker_gone, rolling_restart, worker_killed
from tests.fault.conftest import DEADLINE_S, TIMEOUT_S

pytestmark = pytest.mark.timeout(TIMEOUT_S)

# How fast, `antiphon bench faults` measures; here only that waits end, on whatever machine.
SLACK_S = 6.0


async def test_with_the_broker_gone_the_edge_goes_on_alone_and_collaborates_when_it_is_back(
    bench: FaultBench,
) -> None:
    figures = await broker_gone(bench, 1)
    assert (figures["mismatches"], figures["struck"]) == (0, 1)
    assert figures["next_token_s"]["most"] < DEADLINE_S + SLACK_S
    assert figures["collaborating_again_s"]["most"] < 5.0 + SLACK_S


async def test_a_worker_killed_in_mid_answer_costs_a_wait_and_no_text(bench: FaultBench) -> None:
    figures = await worker_killed(bench, 2)
    assert (figures["mismatches"], figures["struck"]) == (0, 2)
    assert figures["wait_s"]["most"] < DEADLINE_S + SLACK_S


async def test_sixteen_sessions_do_not_notice_that_four_workers_restart_one_by_one(bench: FaultBench) -> None:
    figures = await rolling_restart(bench, 1)
    assert figures["answers"] >= figures["sessions"]
    assert figures["failures"] == 0, figures["reasons"]
    assert figures["mismatches"] == 0
