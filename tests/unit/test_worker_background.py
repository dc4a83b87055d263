"""A worker whose heartbeat has stopped must not go on looking well."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from cloud_worker.worker import CloudWorker, WorkerLimits
from shared.context.memory import MemoryContextStore
from shared.wire.topics import SessionAddress


class QuietTransport:
    """Keeps in mind what is subscribed to."""

    def __init__(self) -> None:
        self.filters: set[str] = set()

    def subscribe(self, topic_filter: str, _handler: object, **_: object) -> None:
        self.filters.add(topic_filter)

    def unsubscribe(self, topic_filter: str) -> None:
        self.filters.remove(topic_filter)


class UnfreeingEngine:
    """Fails where no session's rows are to blame."""

    hidden_size = 1
    layers = 1

    def drop(self, _addresses: Sequence[SessionAddress]) -> None:
        raise RuntimeError("a cache can't be freed")


async def test_a_heartbeat_that_fails_takes_the_worker_out_of_its_pool():
    transport: Any = QuietTransport()
    engine: Any = UnfreeingEngine()
    limits = WorkerLimits(
        max_sessions=1, session_ttl_s=60.0, max_positions=8, kv_budget_bytes=1, batch_tokens=8
    )
    worker = CloudWorker(
        transport,
        engine,
        MemoryContextStore(),
        worker="w",
        tenant="home",
        model="m",
        digest="0" * 64,
        limits=limits,
    )
    await worker.start()
    subscribed = set(transport.filters)
    worker._runner.free([SessionAddress("home", "hub", "s")])
    async with asyncio.timeout(10):
        await worker.broken.wait()
    assert [left for left in subscribed - transport.filters if "/open/" in left]
    await worker.stop()


async def test_a_worker_that_is_stopped_is_not_broken():
    transport: Any = QuietTransport()
    engine: Any = UnfreeingEngine()
    worker = CloudWorker(
        transport, engine, MemoryContextStore(), worker="w", tenant="home", model="m", digest="0" * 64
    )
    await worker.start()
    await worker.stop()
    assert not worker.broken.is_set()
