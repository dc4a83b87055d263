"""What may happen to a worker: another one takes its sessions, and nobody's text changes."""

from __future__ import annotations

import asyncio
import resource
from functools import partial
from pathlib import Path

from ops.faults.catalog.moments import Stage, killed_at
from ops.faults.proxy import Direction
from ops.faults.rig import Plan
from ops.faults.run import Fault, Run

# Long enough that rows and masks of its forwards don't fit what a process has at hand.
_LONG_PROMPT_WORDS = 700
# Eight of them keep the edge busy for seconds, or for thirteen on a busy machine.
_LONG_PROMPTS_S = 25.0


async def killed(run: Run) -> None:
    """Kill -9 at any time."""
    await run.reach()
    run.rig.kill(run.worker())


async def killed_twice(run: Run) -> None:
    """Kill -9, and its successor some tokens later."""
    await run.reach()
    run.rig.kill(run.worker())
    await run.reach(run.moment + 6)
    run.rig.kill(run.worker())


async def frozen(run: Run) -> None:
    """A long pause; then it goes on with sessions that are somebody else's by now."""
    await run.reach()
    worker = run.worker()
    run.rig.freeze(worker)
    await asyncio.sleep(run.rng.uniform(0.2, 2.0))
    run.rig.thaw(worker)


async def stopped(run: Run) -> None:
    """SIGTERM: it finishes what is queued, says goodbye, and its sessions open elsewhere."""
    await run.reach()
    await run.rig.leave(run.worker())


async def starved(run: Run) -> None:
    """No more memory for one (RLIMIT_AS): what needs some fails there, and it stays in the pool."""
    touched = asyncio.Event()

    async def on_packet(direction: Direction, topic: str, _payload: bytes) -> None:
        if direction is Direction.DOWN and ("/open/" in topic or "/steps/" in topic):
            touched.set()

    worker = run.rig.mortals[-1]
    _limit_memory(run.rig.pid(worker))
    run.rig.listen(worker, on_packet)
    await run.over()
    run.struck = touched.is_set()
    run.rig.kill(worker)  # a limit can't be trusted to leave nothing behind


def _limit_memory(pid: int) -> None:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))


def _absent() -> str:
    return "" if hasattr(resource, "prlimit") else "prlimit is Linux's alone"


_fault = partial(Fault, target="worker")

FAULTS = [
    _fault("worker killed", strike=killed),
    *(
        _fault(f"worker killed, step {stage.value}", strike=partial(killed_at, stage=stage))
        for stage in Stage
    ),
    _fault("worker and its successor killed", strike=killed_twice, plan=Plan(workers=3)),
    _fault("worker frozen, then resumed", strike=frozen),
    _fault("worker stopped", strike=stopped),
    _fault(
        "worker out of memory",
        strike=starved,
        words=_LONG_PROMPT_WORDS,
        tokens=16,
        holds_s=_LONG_PROMPTS_S,
        absent=_absent,
    ),
]
