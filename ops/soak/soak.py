"""One soak: an installation, devices that ask all the time, a storm of faults, and a look at memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

from ops.faults.bench import FaultBench
from ops.faults.clock import libfaketime
from ops.faults.rig import Plan, Rig
from ops.faults.run import Fault
from ops.faults.servers import find_binary
from ops.faults.versions import versions
from ops.provenance import commit, machine
from ops.soak.deck import faults_for
from ops.soak.devices import DEVICES, Devices
from ops.soak.memory import INTERVAL_S, MemoryLog, watch
from ops.soak.report import SoakReport, reasons_to_fail, summary_of
from ops.soak.spells import Spells
from ops.soak.storm import Storm
from ops.soak.tally import Tally
from ops.soak.trend import LIMIT_MIB_PER_H, WARM_UP_S

# One may die, and its successor too.
_WORKERS: Final = 3
# Sessions of faults past are gone after that, so that memory comes to rest.
_SESSION_TTL_S: Final = 30.0


@dataclass(frozen=True)
class SoakSettings:
    """What a soak is told.

    Attributes:
        duration_s: of the storm; the last answers come a little later.
        seed: of questions, faults and links.
        faults: only those whose names begin with one of these; none: all that fit.
        warm_up_s: of each process; its memory is looked at afterwards.
        limit_mib_per_h: growth of memory that fails the soak, if the whole interval is beyond it.
        interval_s: between samples of memory.
    """

    duration_s: float
    seed: int = 0
    faults: tuple[str, ...] = ()
    warm_up_s: float = WARM_UP_S
    limit_mib_per_h: float = LIMIT_MIB_PER_H
    interval_s: float = INTERVAL_S


OnStrike = Callable[[Fault, Tally], None]


async def soak(bench: FaultBench, settings: SoakSettings, on_strike: OnStrike | None = None) -> SoakReport:
    """Run a soak.

    Args:
        bench: makes the installation and knows its right answers.
        settings: what to do.
        on_strike: called with each fault before it strikes.

    Raises:
        ConfigError: no fault fits; or a server can't be started.
        LinkError: the installation does not work even before the first fault.
    """
    plan = _plan()
    faults = faults_for(plan, settings.faults)
    async with bench.rig(Fault("soak", "soak", plan=plan), settings.seed) as rig:
        return await _Soak(rig, faults, Tally(bench.oracle), settings, on_strike).run()


def _plan() -> Plan:
    """As much as this machine has."""
    return Plan(
        workers=_WORKERS,
        redis=find_binary("redis-server") is not None,
        clock=libfaketime() is not None,
        session_ttl_s=_SESSION_TTL_S,
    )


class _Soak:
    """The parts of a soak around one rig."""

    def __init__(
        self, rig: Rig, faults: list[Fault], tally: Tally, settings: SoakSettings, on_strike: OnStrike | None
    ) -> None:
        spells = Spells()
        self._rig = rig
        self._settings = settings
        self._tally = tally
        self._devices = Devices(rig, spells, tally, settings.seed)
        self._storm = Storm(
            rig, faults, spells, tally, settings.seed, lambda fault: on_strike and on_strike(fault, tally)
        )
        self._memory = MemoryLog(settings.warm_up_s)

    async def run(self) -> SoakReport:
        """Until the time is over and the last answer is there."""
        watching = asyncio.ensure_future(
            watch(self._rig, self._memory, time.monotonic, self._settings.interval_s)
        )
        try:
            await self._storm_and_ask(time.monotonic() + self._settings.duration_s)
        finally:
            watching.cancel()
        return self._report()

    async def _storm_and_ask(self, end_s: float) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(DEVICES):
                group.create_task(self._devices.ask_until(end_s, number))
            group.create_task(self._storm.strike_until(end_s))

    def _report(self) -> SoakReport:
        tally, faults, memory = self._tally, dict(self._storm.strikes), self._memory.trends()
        reasons = reasons_to_fail(tally, faults, memory, self._settings.limit_mib_per_h)
        return SoakReport(
            machine(),
            commit(),
            versions(embedded=self._rig.plan.embedded),
            {**asdict(self._settings), "devices": DEVICES, **asdict(self._rig.plan)},
            dict(tally.kinds),
            faults,
            memory,
            verdict="FAIL" if reasons else "PASS",
            reasons=reasons,
            errors=tally.errors,
            summary=summary_of(tally, faults, memory),
        )
