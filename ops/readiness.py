"""Who is online, from retained presence."""

from __future__ import annotations

import asyncio

from broker.presence import Roster, read_status
from broker.transport import Incoming, Transport
from shared.errors import AntiphonError
from shared.wire import topics


class Readiness:
    """Follows the presence of a tenant's edges and workers."""

    def __init__(self, transport: Transport, tenant: str) -> None:
        self.edges: set[str] = set()
        self.workers: set[str] = set()
        self._edge_roster = Roster()
        self._worker_roster = Roster()
        self._changed = asyncio.Event()
        transport.subscribe(topics.edge_status_filter(tenant), self._on_edge)
        transport.subscribe(topics.worker_status_filter(tenant), self._on_worker)
        transport.on_state(self._on_state)

    async def wait(self, *, edges: int, workers: int, timeout_s: float) -> bool:
        """Wait until at least so many are online; whether they came in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while len(self.edges) < edges or len(self.workers) < workers:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _on_state(self, connected: bool) -> None:
        """Who vanished with the broker sent no will; the next connection tells anew who is there."""
        if not connected:
            self.edges.clear()
            self.workers.clear()

    def _on_edge(self, incoming: Incoming) -> None:
        self._note(self.edges, self._edge_roster, incoming, topics.parse_edge_status)

    def _on_worker(self, incoming: Incoming) -> None:
        self._note(self.workers, self._worker_roster, incoming, topics.parse_worker_status)

    def _note(self, online: set[str], roster: Roster, incoming: Incoming, parse: topics.ParseId) -> None:
        try:
            name, status = parse(incoming.topic), read_status(incoming.payload)
        except AntiphonError:
            return
        if roster.hear(name, status):
            (online.add if status.online else online.discard)(name)
            self._changed.set()
