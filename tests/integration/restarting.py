"""Workers of a running installation that are told to stop."""

from __future__ import annotations

import os
import signal

from tests.integration.conftest import Installation
from tests.waiting import eventually


def send_signal(home: Installation, worker: str, number: signal.Signals) -> None:
    os.kill(home.stack.members[worker].process.pid, number)


async def restart(home: Installation, worker: str) -> None:
    """Tell a worker to stop, and start it again when it has left in order."""
    send_signal(home, worker, signal.SIGTERM)
    await eventually(lambda: not home.stack.members[worker].alive, 30.0, f"{worker} ends")
    assert home.stack.members[worker].process.exitcode == 0
    await eventually(lambda: worker not in home.readiness.workers, 20.0, f"{worker} says farewell")
    home.stack.start(worker)
    await eventually(lambda: worker in home.readiness.workers, 60.0, f"{worker} is back")
