"""How a worker that leaves passes its sessions on.

    at rest ─────────────────────────► leaving ──► log written ──► told: `Refused{draining}`
    at work ──► its step is answered ──┘

An edge that waits for an answer gets it here; one that is told opens elsewhere at once, or with its next
ask, and finds the whole log there. Presence alone would do for a worker at rest, but under load one is
never at rest, and neither is a session that keeps several steps on their way. So what comes after the drain
has begun is passed over: the word that ends the wait for it is a batch and a store's write away.
"""

from __future__ import annotations

import asyncio

import structlog

from cloud_worker.keeper import Keeper
from cloud_worker.outbox import Outbox
from cloud_worker.session import WorkerSession
from shared.errors import DrainingError
from shared.wire.topics import SessionAddress

log = structlog.get_logger(__name__)


class Handover:
    """Passes every session on, each as soon as its queued steps are answered.

    Args:
        keeper: what is held of the sessions.
        outbox: the way to their edges.
        worker: this worker's id.
    """

    def __init__(self, keeper: Keeper, outbox: Outbox, worker: str) -> None:
        self._keeper = keeper
        self._outbox = outbox
        self._worker = worker
        self._begun = False
        self._leaving: dict[SessionAddress, WorkerSession] = {}

    def is_leaving(self, address: SessionAddress) -> bool:
        """Whether the session is about to be told, so that no step of it is taken any more."""
        return address in self._leaving or (self._begun and address in self._keeper.table)

    def on_settled(self, session: WorkerSession) -> None:
        """Let the session go, if this worker leaves and nothing of it waits."""
        if self._begun and not self._keeper.runner.at_work(session.address):
            self._keeper.forget(session.address)
            self._leaving[session.address] = session

    async def run(self, timeout_s: float) -> bool:
        """Pass all sessions on; whether the queued steps of all were answered in time."""
        self._begun = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._pass_on()
        except TimeoutError:
            log.warning("drain_cut_short", sessions=len(self._keeper.table))
            return False
        finally:
            self._tell_the_rest()
        return True

    async def _pass_on(self) -> None:
        while self._leaving or len(self._keeper.table):
            for session in self._keeper.table:
                self.on_settled(session)
            if not self._leaving:  # all are at work, so there is a batch to wait for
                await self._keeper.runner.batch_over()
            for address, session in list(self._leaving.items()):
                await self._keeper.log.flush(address)
                self._tell(address, session)

    def _tell(self, address: SessionAddress, session: WorkerSession) -> None:
        self._leaving.pop(address, None)
        self._keeper.forget(address)
        error = DrainingError(f"worker {self._worker} is leaving: open the session again")
        self._outbox.refuse(address, session.epoch, error)

    def _tell_the_rest(self) -> None:
        for session in (*self._leaving.values(), *self._keeper.table):
            self._tell(session.address, session)
