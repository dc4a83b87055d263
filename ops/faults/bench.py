"""Runs faults, many seeds each, on rigs that live through all runs of a fault."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

from edge_agent.request import Request
from ops.faults.oracle import Oracle
from ops.faults.outcome import Outcome
from ops.faults.questions import question
from ops.faults.report import FaultRow, row_of
from ops.faults.rig import Rig
from ops.faults.run import QUESTIONS, Fault, Run, carry_out, new_run
from ops.faults.tiny_model import tiny_bundle
from ops.faults.verdict import judge
from shared.model.bundle import Bundle

# One session alone, and as many at once as an edge works on.
SESSIONS = (1, 8)
_OTHER_SEED = 4

OnRun = Callable[[Outcome], None]


class FaultBench:
    """One bench: bundles, oracle, and a folder for rigs.

    Args:
        folder: for everything; the caller removes it.
        deadline_s: of the edges; None: the plans' own.
        embedded: use the embedded broker even where Mosquitto is installed.
        commit: by which code, for the rows.
    """

    def __init__(
        self, folder: Path, *, deadline_s: float | None = None, embedded: bool = False, commit: str = ""
    ) -> None:
        self.folder = folder
        self.bundle: Bundle = tiny_bundle(folder / "bundle")
        self.other: Bundle = tiny_bundle(folder / "other-bundle", _OTHER_SEED)
        self.oracle = Oracle(self.bundle)
        self._deadline_s = deadline_s
        self._embedded = embedded
        self._commit = commit
        self._rigs = 0

    def close(self) -> None:
        """End the oracle's thread."""
        self.oracle.close()

    @asynccontextmanager
    async def rig(self, fault: Fault, seed: int = 0) -> AsyncIterator[Rig]:
        """A rig as the fault needs it."""
        plan = replace(fault.plan, embedded=self._embedded or fault.plan.embedded)
        if self._deadline_s is not None:
            plan = replace(plan, deadline_s=self._deadline_s)
        self._rigs += 1
        folder = self.folder / f"rig-{self._rigs}"
        async with Rig(folder, self.bundle.path, plan, other_bundle=self.other.path, seed=seed) as rig:
            yield rig

    async def run(self, rig: Rig, fault: Fault, seed: int, sessions: int) -> Outcome:
        """One run, judged."""
        await rig.mend()
        if fault.instead is not None:
            return await fault.instead(rig, seed)
        run = await self.new_run(rig, fault, seed, sessions)
        await carry_out(run, fault)
        outcome = await judge(run, fault, seed, self.oracle)
        if fault.after is not None:
            words = await fault.after(run)
            outcome.failures.extend([words] if words else [])
        return outcome

    async def new_run(self, rig: Rig, fault: Fault, seed: int, sessions: int) -> Run:
        """A run, not begun yet, whose first answer lasts long enough to be struck in its midst."""
        rig.device.forget()
        first = Random(f"{fault.name} {seed}").randrange(QUESTIONS)  # noqa: S311  not for secrets
        while await self._stops(question(first, fault.tokens, fault.words)):
            first += 1
        return new_run(rig, fault, seed, sessions, first=first)

    async def _stops(self, request: Request) -> bool:
        """Whether the answer ends by itself, which random models do at random."""
        return (await self.oracle.expected(request)).finish_reason == "stop"

    async def row(self, fault: Fault, seeds: Sequence[int], on_run: OnRun) -> FaultRow:
        """All runs of a fault: one session alone and several at once in turn."""
        absent = fault.absent()
        if absent:
            return FaultRow(fault.name, fault.target, self._commit, skipped=absent)
        outcomes = []
        async with self.rig(fault, seeds[0]) as rig:
            for place, seed in enumerate(seeds):
                outcome = await self.run(rig, fault, seed, SESSIONS[place % len(SESSIONS)])
                outcomes.append(outcome)
                on_run(outcome)
            return row_of(fault.name, fault.target, self._commit, outcomes, rig.plan.deadline_s)
