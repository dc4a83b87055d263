"""Bad weather between workers and broker: the edge repeats, the worker knows what it has seen."""

from __future__ import annotations

import asyncio
from functools import partial

from ops.faults.proxy import Weather
from ops.faults.run import Fault, Run


async def _weather(run: Run, up: Weather, down: Weather) -> None:
    """From the first token to the last."""
    for name in run.rig.workers:
        proxy = run.rig.proxies[name]
        proxy.up, proxy.down = up, down
    await run.reach(0)
    await run.over()


async def cut_off(run: Run) -> None:
    """Half a connection: the serving worker hears and says nothing any more, and nobody is told."""
    await run.reach()
    proxy = run.rig.proxies[run.worker()]
    proxy.partition()
    await run.over()
    proxy.heal()


async def edge_cut_off(run: Run) -> None:
    """The same to the edge: nobody is left to ask."""
    await run.reach()
    proxy = run.rig.proxies["edge"]
    proxy.partition()
    await asyncio.sleep(run.rng.uniform(0.2, 1.3 * run.rig.plan.deadline_s))
    proxy.heal()


def _fault(name: str, up: Weather, down: Weather | None = None, tokens: int = 40) -> Fault:
    """Replies travel up, steps down; the same weather for both unless it says otherwise."""
    strike = partial(_weather, up=up, down=up if down is None else down)
    return Fault(name, "link", strike, tokens=tokens)


def _delay(round_trip_ms: int, tokens: int) -> Fault:
    """Half of it each way."""
    return _fault(f"{round_trip_ms} ms round trip", Weather(delay_s=round_trip_ms / 2000), tokens=tokens)


FAULTS = [
    _delay(0, 40),
    _delay(20, 40),
    _delay(100, 16),
    _delay(300, 10),
    _fault("20 ms with 15 ms jitter", Weather(delay_s=0.01, jitter_s=0.0075)),
    _fault("1 % loss", Weather(loss=0.01)),
    _fault("5 % loss", Weather(loss=0.05)),
    _fault("everything twice", Weather(copies=2)),
    _fault("every step ten times", Weather(), Weather(copies=10)),
    _fault("every reply ten times", Weather(copies=10), Weather()),
    _fault("reordering", Weather(reorder=0.2, copies=2)),
    _fault("loss, copies, reordering and delay", Weather(delay_s=0.005, loss=0.03, copies=3, reorder=0.2)),
    Fault("worker cut off (half-open)", "link", cut_off),
    Fault("edge cut off (half-open)", "link", edge_cut_off, may_degrade=True, deaf=True),
]
