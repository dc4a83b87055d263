"""A worker of a storm: the real front, admission, runner, scheduler, table and log over a toy engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from broker.presence import Presence
from cloud_worker.worker import CloudWorker, WorkerLimits
from shared.wire import topics
from tests.simulation.checked_session import DIGEST
from tests.simulation.edge import MODEL, TENANT
from tests.simulation.net import SimBroker
from tests.simulation.store import StoreClient, StoreServer
from tests.simulation.toy_model import ROW_BYTES, ToyEngine
from tests.simulation.transport import SimTransport
from tests.simulation.virtual_loop import Process, VirtualLoop
from tests.simulation.weather import Weather

# Longer than any storm's silence, so that a session that is alive is never an orphan.
SESSION_TTL_S = 60.0


class _VirtualThread:
    """Stands for an `EngineThread`: a call takes virtual time on the loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def run(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        """See `EngineThread.run`."""
        future: asyncio.Future[Any] = self._loop.run_in_executor(None, function, *arguments)
        return future

    def close(self) -> None:
        """See `EngineThread.close`."""


class SimWorker:
    """One worker process; a restarted worker is a new one with the old name.

    Attributes:
        leaving: it drains, or has left.
    """

    def __init__(
        self, name: str, loop: VirtualLoop, weather: Weather, broker: SimBroker, store: StoreServer
    ) -> None:
        self.name = name
        self.process = Process(name)
        self.leaving = False
        self._loop = loop
        breaks = weather.stream(f"engine/{name}/{loop.time()}")
        self.engine = ToyEngine(lambda: breaks.random() < weather.breaking)
        presence = Presence(topics.worker_status_topic(TENANT, name), MODEL, DIGEST, wall_clock_s=loop.time)
        self.transport = SimTransport(broker, self.process, f"worker.{name}", presence, weather.net.refused)
        self._store = StoreClient(store, self.process)
        self.front = self.process.context.run(self._make_front, weather)
        self._serving = loop.spawn(self.process, self._start())

    def _make_front(self, weather: Weather) -> CloudWorker:
        limits = WorkerLimits(
            max_sessions=weather.max_sessions,
            session_ttl_s=SESSION_TTL_S,
            max_positions=4096,
            kv_budget_bytes=weather.kv_budget_rows * ROW_BYTES,
            batch_tokens=64,
        )
        front = CloudWorker(
            self.transport,
            self.engine,  # type: ignore[arg-type]  # has its interface, not its weights
            self._store,
            worker=self.name,
            tenant=TENANT,
            model=MODEL,
            digest=DIGEST,
            limits=limits,
        )
        front._runner._thread = _VirtualThread(self._loop)  # type: ignore[assignment]  # has its interface
        front._log._guard._clock = self._loop.time
        front._scheduler._max_waiting = weather.max_waiting
        return front

    async def _start(self) -> None:
        self.transport.start()
        await self.front.start()

    def leave(self) -> asyncio.Task[Any]:
        """Drain and stop, as on SIGTERM."""
        self.leaving = True
        return self._loop.spawn(self.process, self._leave())

    async def _leave(self) -> None:
        await self._serving
        await self.front.drain()
        await self.front.stop()
        self.transport.stop()

    def leftovers(self) -> list[str]:
        """What it still holds; after every session's end and time to live that is nothing (invariant 6)."""
        front = self.front
        held = {
            "sessions": len(front._table),
            "works": len(front._scheduler),
            "claims": len(front._admission._claims),
            "logged sessions": len(front._log._sessions),
            "backlog bytes": front._log.backlog_bytes,
            "caches": len(self.engine.caches),
            "caches to free": len(front._runner._to_free),
        }
        return [f"{self.name} holds {count} {what}" for what, count in held.items() if count]

    def over_limits(self, weather: Weather) -> list[str]:
        """Bounds that it breaks right now."""
        front, broken = self.front, []
        if len(front._table) > weather.max_sessions:
            broken.append(f"{self.name} has {len(front._table)} sessions")
        if len(front._scheduler) > weather.max_waiting:
            broken.append(f"{self.name} has {len(front._scheduler)} works")
        return broken
