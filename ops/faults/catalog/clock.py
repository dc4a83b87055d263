"""Clocks that jump by an hour: a wall clock that is set, a host that comes back with a wrong one."""

from __future__ import annotations

import asyncio
from functools import partial

from ops.faults.catalog.edge import RESTART_S
from ops.faults.clock import libfaketime, serve_edge_with_clock, serve_worker_with_clock
from ops.faults.rig import EDGE, Plan
from ops.faults.run import Fault, Run
from ops.roles import serve_worker

HOUR_S = 3600


async def broker_jumps(run: Run, offset_s: int) -> None:
    """The broker is set to another time in mid-answer; then a worker dies, and opens have to be delivered."""
    await run.reach()
    run.rig.clock.jump(offset_s)
    await run.reach(run.moment + 4)
    run.rig.kill(run.worker())
    await run.over()
    run.rig.clock.jump(0)


async def worker_returns(run: Run, offset_s: int) -> None:
    """The serving worker dies and comes back with a wrong clock; then the others die."""
    await run.reach()
    worker = run.worker()
    member = run.rig.stack.members[worker]
    run.rig.kill(worker)
    member.role = partial(serve_worker_with_clock, offset_s=offset_s)
    run.rig.stack.start(worker)
    await asyncio.sleep(run.rng.uniform(0.3, 0.6))  # it may be there or not
    for other in run.rig.mortals:
        if other != worker:
            run.rig.kill(other)
    await run.over()
    run.rig.kill(worker)
    member.role = serve_worker


async def edge_returns(run: Run, offset_s: int) -> None:
    """The edge dies and comes back with a wrong clock: it answers, and is seen to be there."""
    await run.reach()
    run.rig.kill(EDGE)
    run.rig.stack.members[EDGE].role = partial(serve_edge_with_clock, path=run.rig.wire, offset_s=offset_s)
    run.rig.stack.start(EDGE)
    await run.over()
    await run.rig.until_present()
    run.rig.kill(EDGE)
    run.rig.set_bundle(EDGE)


def _absent() -> str:
    return "" if libfaketime() else "libfaketime is not installed (apt-get install faketime)"


def _broker(name: str, offset_s: int) -> Fault:
    return Fault(
        name, "clock", partial(broker_jumps, offset_s=offset_s), plan=Plan(clock=True), absent=_absent
    )


def _worker(name: str, offset_s: int) -> Fault:
    strike = partial(worker_returns, offset_s=offset_s)
    return Fault(name, "clock", strike, may_degrade=True, tokens=80)


def _edge(name: str, offset_s: int) -> Fault:
    return Fault(name, "clock", partial(edge_returns, offset_s=offset_s), ends=EDGE, holds_s=RESTART_S)


FAULTS = [
    _broker("broker an hour ahead", HOUR_S),
    _broker("broker an hour back", -HOUR_S),
    _worker("worker returns an hour ahead", HOUR_S),
    _worker("worker returns an hour back", -HOUR_S),
    _edge("edge returns an hour ahead", HOUR_S),
    _edge("edge returns an hour back", -HOUR_S),
]
