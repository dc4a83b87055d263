"""Several faults at once, chosen by a seed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Final

from ops.faults.catalog import broker, edge, links, store, worker
from ops.faults.rig import EDGE, Plan
from ops.faults.run import Fault, Run, TooLateError
from shared.errors import AntiphonError

_AT_ONCE: Final = (2, 4)
_TOKENS: Final = 100
_WORKERS: Final = 3


def storm(seed: int) -> Fault:
    """A few faults of the catalog's, some at the same token, some one after the other."""
    rng = Random(f"storm {seed}")  # noqa: S311  not for secrets
    possible = [
        fault
        for part in (broker, store, worker, edge, links)
        for fault in part.FAULTS
        if not fault.absent() and fault.words is None
    ]
    chosen = rng.sample(possible, rng.randint(*_AT_ONCE))

    async def strike(run: Run) -> None:
        await _strike_all(run, chosen)

    return Fault(
        f"storm {seed}: {', '.join(fault.name for fault in chosen)}",
        "storm",
        strike,
        may_degrade=True,
        deaf=True,
        ends=EDGE if any(fault.begins_anew for fault in chosen) else "",
        plan=Plan(workers=_WORKERS),
        tokens=_TOKENS,
        holds_s=sum(fault.holds_s for fault in chosen),
    )


async def _strike_all(run: Run, faults: Sequence[Fault]) -> None:
    """At the run's moment, and again wherever it is set meanwhile."""
    strikes = []
    for fault in faults:
        strikes.append(asyncio.ensure_future(_strike(run, fault)))
        await asyncio.sleep(run.rng.uniform(0.0, 0.2))
    await asyncio.gather(*strikes)


async def _strike(run: Run, fault: Fault) -> None:
    """What is down already can't be struck; that is no failure of the storm."""
    try:
        await fault.strike(run)
    except (AntiphonError, TooLateError):
        return
