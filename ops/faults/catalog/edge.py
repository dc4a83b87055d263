"""What may happen to the edge: its devices ask again, and what it left in the cloud goes by itself."""

from __future__ import annotations

import asyncio
from functools import partial

from ops.faults.catalog.orphans import left_behind
from ops.faults.proxy import Direction
from ops.faults.rig import EDGE, Plan
from ops.faults.run import Fault, Run
from shared.wire.topics import parse_steps

# Sessions of an edge that is gone live that long; workers look for them every five seconds.
ORPHAN_TTL_S = 1.0
_WORKER_LEVEL = 4  # of a steps topic
_FROZEN_S = 2.0
RESTART_S = 10.0
"""Until a killed edge is back: a second or two, on a busy machine."""


async def killed(run: Run) -> None:
    """Kill -9, and started again at once."""
    run.rig.listen(EDGE, partial(_note_session, run))
    await run.reach()
    run.rig.kill(EDGE)
    run.rig.stack.start(EDGE)


async def frozen(run: Run) -> None:
    """A pause of the whole hub; workers, broker and Redis go on."""
    await run.reach()
    run.rig.freeze(EDGE)
    await asyncio.sleep(run.rng.uniform(0.2, _FROZEN_S))
    run.rig.thaw(EDGE)


async def _note_session(run: Run, direction: Direction, topic: str, _payload: bytes) -> None:
    """Remember which worker a session went to."""
    if direction is Direction.UP and "/steps/" in topic:
        run.served[parse_steps(topic)] = topic.split("/")[_WORKER_LEVEL]


_fault = partial(Fault, target="edge")

FAULTS = [
    _fault(
        "edge killed",
        strike=killed,
        after=left_behind,
        ends=EDGE,
        plan=Plan(session_ttl_s=ORPHAN_TTL_S),
        holds_s=RESTART_S,
    ),
    _fault("edge frozen, then resumed", strike=frozen, holds_s=_FROZEN_S),
]
