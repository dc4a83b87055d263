"""An answer with little time goes on alone when it is over, and nobody else notices."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from edge_agent.cloud_session import CloudSession
from edge_agent.link import LinkedSession
from tests.simulation.mutants import Mutant
from tests.simulation.scene import CALM, calm_weather, run_well
from tests.simulation.storm import Storm

SEEDS = range(8)
# A question and its answer pass the broker, and the worker thinks: rarely is that over in this time.
BUDGET_S = 0.2
HURRIED = ("s0", "s1")
# After the last answer, what is on its way arrives; a time to live is many times that.
SOON_S = 1.0
FAR = replace(CALM, longest_s=0.1)
# What an edge logs that takes its link for broken.
BLAME = ("cloud_unavailable", "state=degraded")

BLAMED = Mutant(
    "a late answer is the link's failure", LinkedSession, "_fail", "if not failure.late:", "if True:"
)
KEPT = Mutant(
    "a worker that was given up is not told",
    CloudSession,
    "close",
    'self._done(self._give_up(""))',
    "if self.phase is Phase.CLOSED: return None",
)


class Hurry(Storm):
    """Some of the sessions have no time; the others have all of it."""

    def _begin(self, index: int) -> None:
        super()._begin(index)
        _, session = self._sessions[-1]
        if session.address.session in HURRIED:
            session._wish = replace(session._wish, budget_s=BUDGET_S)

    def _check_texts(self) -> None:
        """The hurried may be degraded; their texts have to hold all the same."""
        hurried = [each for each in self._sessions if each[1].address.session in HURRIED]
        self.wrong += [fault for _, session in hurried for fault in session.faults()]
        self._sessions = [each for each in self._sessions if each not in hurried]
        super()._check_texts()

    async def _until_answered(self) -> None:
        await super()._until_answered()
        await asyncio.sleep(SOON_S)
        for worker in self._workers.values():
            self.wrong += worker.leftovers()
        self.wrong += [line for line in self.trace.lines() if any(sign in line for sign in BLAME)]


def hurry(seed: int) -> Hurry:
    return Hurry(calm_weather(seed, FAR, edges=1, forward_s=0.2))


@pytest.mark.parametrize("seed", SEEDS)
def test_an_answer_whose_time_is_over_leaves_the_link_the_other_sessions_and_no_orphan(seed: int):
    storm = run_well(hurry(seed))
    assert storm.trace.counts["degraded"] > 0
    assert storm.trace.counts["answered"] > 0


@pytest.mark.parametrize(("mutant", "sign"), [(BLAMED, "cloud_unavailable"), (KEPT, "holds")], ids=str)
def test_it_would_show_if_they_were_not_left_alone(mutant: Mutant, sign: str):
    with mutant.planted():
        storms = [hurry(seed) for seed in SEEDS]
        for storm in storms:
            storm.run()
    assert any(sign in wrong for storm in storms for wrong in storm.wrong)
