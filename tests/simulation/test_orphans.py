"""A session that two workers have taken is given back by the one that the edge does not use."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from edge_agent.cloud_session import CloudSession
from tests.simulation.mutants import Mutant
from tests.simulation.scene import CALM, calm_weather, run_well
from tests.simulation.storm import Storm

# After the last answer, what is on its way arrives; a time to live is many times that.
SOON_S = 1.0
# Every open goes to two members of the pool, mostly different ones.
TWICE = replace(CALM, redelivered=1.0)

KEPT = Mutant(
    "the second worker is not told",
    CloudSession,
    "is_in_vain",
    "message.worker != self.worker",
    "False",
)


class _SoonEmpty(Storm):
    """Sessions are looked for at the workers long before an orphan's time is over."""

    async def _until_answered(self) -> None:
        await super()._until_answered()
        await asyncio.sleep(SOON_S)
        for worker in self._workers.values():
            self.wrong += worker.leftovers()


@pytest.mark.parametrize("seed", range(10))
def test_no_worker_keeps_a_session_that_is_over_when_each_open_reached_two(seed: int):
    storm = run_well(_SoonEmpty(calm_weather(seed, TWICE)))
    assert storm.trace.counts["Opened"] > storm.weather.sessions


def test_the_look_for_orphans_would_find_one():
    with KEPT.planted():
        storms = [_SoonEmpty(calm_weather(seed, TWICE)) for seed in range(4)]
        for storm in storms:
            storm.run()
    assert any("sessions" in wrong for storm in storms for wrong in storm.wrong)
