"""Strikes one fault after the other, and waits each time until everything works again.

A process that is killed after a minute does not show whether it grows. So in the second half of the time one
process of each role is spared: it meets every fault that it can live through, until the end.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

import msgspec

from ops.faults.rig import Rig
from ops.faults.run import Fault, carry_out, new_run
from ops.soak.deck import deal, lasting
from ops.soak.spells import Spells
from ops.soak.tally import Tally
from shared.errors import AntiphonError, LinkError

# Between faults, so that good weather is soaked in too.
_PAUSE_S: Final = (0.5, 3.0)
PACED: Final = "beside a fault"


class Strikes(msgspec.Struct):
    """What became of one fault's turns.

    Attributes:
        struck: while answers were being made. late: the answer that it waited for was over.
        hindered: it could not be made.
    """

    struck: int = 0
    late: int = 0
    hindered: int = 0


class Storm:
    """All faults of a soak.

    Args:
        rig: what they strike. faults: which.
        spells: is told of them. tally: judges the answer that each fault is timed by.
        seed: of order, moments and pauses.
        on_strike: called with each fault before it strikes.

    Attributes:
        strikes: by fault.
    """

    def __init__(
        self,
        rig: Rig,
        faults: Sequence[Fault],
        spells: Spells,
        tally: Tally,
        seed: int,
        on_strike: Callable[[Fault], None],
    ) -> None:
        self.strikes: defaultdict[str, Strikes] = defaultdict(Strikes)
        self._rig = rig
        self._spells = spells
        self._tally = tally
        self._rng = Random(f"storm {seed}")  # noqa: S311  not for secrets
        self._faults = faults
        self._on_strike = on_strike

    async def strike_until(self, end_s: float) -> None:
        """Go on until a monotonic time, or until the installation does not come back."""
        try:
            await self._strike_all(self._faults, (time.monotonic() + end_s) / 2)
            self._rig.spared = self._rig.workers[0]
            await self._strike_all(lasting(self._faults), end_s)
        except LinkError as error:
            self._tally.fail_recovery(str(error))

    async def _strike_all(self, faults: Sequence[Fault], end_s: float) -> None:
        deck = deal(faults, self._rng)
        while time.monotonic() < end_s:
            fault = next(deck)
            self._on_strike(fault)
            try:
                await self._strike(fault)
            except LinkError as error:
                raise LinkError(f"after {fault.name}: {error}") from error
            await asyncio.sleep(self._rng.uniform(*_PAUSE_S))

    async def _strike(self, fault: Fault) -> None:
        """One fault, from its beginning until everything works again.

        Raises:
            LinkError: it does not.
        """
        run = new_run(self._rig, fault, self._rng.randrange(1 << 32), sessions=1)
        spell = self._spells.begin(fault, time.monotonic())
        strikes = self.strikes[fault.name]
        try:
            await carry_out(run, fault)
        except AntiphonError as error:
            strikes.hindered += 1
            self._tally.note(f"{fault.name} could not be made: {error}")
        else:
            strikes.struck += run.struck
            strikes.late += not run.struck
        await self._rig.mend()
        spell.end_s = time.monotonic()
        allowance = self._spells.allowance(spell.start_s, spell.end_s)
        await self._tally.judge(run.heard[0], allowance, PACED, f"beside {fault.name}")
        self._rig.device.forget(run.heard[0].request.id)
