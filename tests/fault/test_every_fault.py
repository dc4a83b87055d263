"""Each fault of the catalog, at a few seeds: the texts are right, nothing is lost or there twice."""

from __future__ import annotations

import pytest

from ops.faults.bench import SESSIONS, FaultBench
from ops.faults.catalog import FAULTS
from ops.faults.catalog.storm import storm
from ops.faults.outcome import Outcome
from ops.faults.run import Fault
from tests.fault.conftest import DEADLINE_S, RUNS, SEED, TIMEOUT_S

pytestmark = pytest.mark.timeout(TIMEOUT_S)

STORMS = max(2, RUNS)
SEEDS = range(SEED, SEED + max(RUNS, len(SESSIONS)))
# Whatever fails, a token waits for the cloud no longer than the deadline; the rest is a busy machine's.
SLACK_S = 6.0


@pytest.mark.parametrize("name", FAULTS)
async def test_no_text_changes_and_nothing_is_lost(name: str, bench: FaultBench) -> None:
    """I1, I2, I4, I7, one session and eight, greedy, seeded and with early exits."""
    outcomes: list[Outcome] = []
    row = await bench.row(FAULTS[name], SEEDS, outcomes.append)
    if row.skipped:
        pytest.skip(row.skipped)
    assert [outcome for outcome in outcomes if not outcome.good] == []
    assert row.answers == sum(outcome.sessions for outcome in outcomes)
    assert row.struck > 0


@pytest.mark.parametrize("seed", range(SEED, SEED + STORMS))
async def test_several_faults_at_once_change_no_text(seed: int, bench: FaultBench) -> None:
    fault = storm(seed)
    async with bench.rig(fault, seed) as rig:
        outcome = await bench.run(rig, fault, seed, SESSIONS[-1])
        assert outcome.good, (fault.name, outcome)
        # Whatever has happened: the installation works again by itself, once everything is there.
        again = await bench.run(rig, Fault("calm", "none"), seed, 1)
    assert again.good, (fault.name, again)
    assert again.degraded_tokens == 0


async def test_a_broker_of_our_own_is_lost_and_found_like_a_mosquitto(bench: FaultBench) -> None:
    """The embedded broker, under the faults that concern a broker most."""
    for name in ("broker killed", "half-open partition"):
        fault = FAULTS[name]
        own = FaultBench(
            bench.folder / f"embedded-{fault.target}-{name[:4]}", deadline_s=DEADLINE_S, embedded=True
        )
        try:
            row = await own.row(fault, SEEDS, lambda _outcome: None)
        finally:
            own.close()
        assert (row.mismatches, row.lost_or_doubled, row.errors) == (0, 0, [])


async def test_a_wait_for_the_cloud_ends_with_the_deadline(bench: FaultBench) -> None:
    """I5, I3: the broker is silent for longer than anybody waits; the edge says its own token in time."""
    from ops.faults.run import Run

    async def frozen_for_good(run: Run) -> None:
        await run.reach()
        run.rig.broker.freeze()

    fault = Fault("frozen for good", "broker", frozen_for_good, may_degrade=True, deaf=True)
    async with bench.rig(fault) as rig:
        outcome = await bench.run(rig, fault, SEED, 1)
    assert outcome.good, outcome
    assert outcome.degraded_tokens > 0
    assert outcome.recovery_s < DEADLINE_S + SLACK_S


async def test_the_suite_sees_a_wrong_text(bench: FaultBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A control: against other weights' texts, every answer is wrong."""
    from ops.faults.oracle import Oracle

    stranger = Oracle(bench.other)
    monkeypatch.setattr(bench, "oracle", stranger)
    calm = Fault("calm", "none")
    async with bench.rig(calm) as rig:
        outcome = await bench.run(rig, calm, SEED, 2)
    stranger.close()
    assert len(outcome.mismatches) == 2
