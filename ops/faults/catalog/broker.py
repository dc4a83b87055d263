"""What may happen to the broker: every link goes through it, so the edge may have to go on alone."""

from __future__ import annotations

import asyncio
from functools import partial

from ops.faults.run import Fault, Run

# A broker that pauses that often is slow for everybody, and silent for nobody's deadline.
_PULSES = 12
_PULSE_S = 0.06


async def killed(run: Run) -> None:
    """Kill -9; an operator brings it back after a moment."""
    await run.reach()
    run.rig.broker.kill()
    await asyncio.sleep(run.rng.uniform(0.0, 1.5))
    await asyncio.to_thread(run.rig.broker.start)


async def restarted(run: Run) -> None:
    """An update: it stops in order and is back at once, without what it had retained."""
    await run.reach()
    await asyncio.to_thread(run.rig.broker.stop)
    await asyncio.to_thread(run.rig.broker.start)


async def frozen(run: Run) -> None:
    """Every socket stays open and nothing passes, for shorter and longer than a deadline."""
    await run.reach()
    run.rig.broker.freeze()
    await asyncio.sleep(run.rng.uniform(0.2, 1.3 * run.rig.plan.deadline_s))
    run.rig.broker.unfreeze()


async def slow(run: Run) -> None:
    """It stands still half of the time."""
    await run.reach()
    for _ in range(_PULSES):
        run.rig.broker.freeze()
        await asyncio.sleep(_PULSE_S)
        run.rig.broker.unfreeze()
        await asyncio.sleep(_PULSE_S)


async def reset(run: Run) -> None:
    """Every connection breaks at once; the broker itself is well."""
    await run.reach()
    for proxy in run.rig.proxies.values():
        await proxy.cut()


async def partitioned(run: Run) -> None:
    """Nothing passes any more between the broker and everybody, and nobody is told."""
    await run.reach()
    for proxy in run.rig.proxies.values():
        proxy.partition()
    await asyncio.sleep(run.rng.uniform(0.2, 1.3 * run.rig.plan.deadline_s))
    for proxy in run.rig.proxies.values():
        proxy.heal()


_fault = partial(Fault, target="broker", may_degrade=True, deaf=True)

FAULTS = [
    _fault("broker killed", strike=killed, ends="broker"),
    _fault("broker restarted", strike=restarted, ends="broker"),
    _fault("broker frozen", strike=frozen),
    _fault("broker slow", strike=slow, may_degrade=False),
    _fault("connections reset", strike=reset),
    _fault("half-open partition", strike=partitioned),
]
