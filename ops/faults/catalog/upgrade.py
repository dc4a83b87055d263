"""A worker comes back with other weights under the same name: the two pools must never meet."""

from __future__ import annotations

from ops.faults.rig import Plan
from ops.faults.run import Fault, Run


async def upgraded(run: Run) -> None:
    """The serving worker stops in order and comes back with another bundle's digest."""
    await run.reach()
    worker = run.worker()
    await run.rig.leave(worker)
    run.rig.set_bundle(worker, run.rig.other_bundle)
    run.rig.stack.start(worker)
    await run.rig.until_present()
    await run.over()
    run.rig.kill(worker)
    run.rig.set_bundle(worker)


FAULTS = [Fault("worker upgraded to other weights", "upgrade", upgraded, plan=Plan(workers=2), tokens=120)]
