"""The worker's heartbeat: next batch, packed forward on the engine thread, results; again.

While a forward runs, new steps gather in the scheduler: they are the next batch. A lone session never waits;
where several step together, the first waits a moment for the others (`Gathering`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import structlog

from cloud_worker.chunk import ChunkSize
from cloud_worker.engine import CloudEngine
from cloud_worker.gathering import Gathering
from cloud_worker.joiner import Joiner
from cloud_worker.pace import Pace
from cloud_worker.scheduler import Scheduler
from cloud_worker.work import Done, Work
from shared.engine_thread import EngineThread
from shared.errors import EngineError
from shared.wire.topics import SessionAddress

log = structlog.get_logger(__name__)

OnDone: TypeAlias = Callable[[Done], None]
OnKv: TypeAlias = Callable[[Mapping[SessionAddress, int]], Sequence[SessionAddress]]


class Runner:
    """Owns the engine's thread.

    Args:
        engine: used from that thread alone.
        scheduler: where works wait.

    Attributes:
        pace: how fast the engine is. batches, rows: what it has run.
    """

    def __init__(self, engine: CloudEngine, scheduler: Scheduler) -> None:
        self._engine = engine
        self._scheduler = scheduler
        self._thread = EngineThread("cloud-engine")
        self._woken = asyncio.Event()
        self._to_free: list[SessionAddress] = []
        self.pace = Pace(scheduler.batch_tokens)
        self._chunk = ChunkSize()
        self._gathering = Gathering(engine.layers)
        self._joiner = Joiner()
        self._running: frozenset[SessionAddress] = frozenset()
        self._batch_over = asyncio.Event()
        self.batches = 0
        self.rows = 0

    @property
    def queue_s(self) -> float:
        """How long a newcomer waits because of what waits already; 0 until the speed is known."""
        return self.pace.wait_s(self._scheduler.rows)

    def at_work(self, address: SessionAddress) -> bool:
        """Whether the session has works that wait or run."""
        return address in self._running or address in self._scheduler

    def wake(self) -> None:
        """There is work."""
        self._woken.set()

    def free(self, addresses: Sequence[SessionAddress]) -> None:
        """Free sessions' caches before the next batch."""
        if addresses:
            self._to_free += addresses
            self.wake()

    async def run(self, on_done: OnDone, on_kv: OnKv) -> None:
        """Run batches until cancelled.

        Args:
            on_done: gets each finished work, on the event loop.
            on_kv: gets the bytes of every session's cache after each batch; returns the sessions whose
                caches are to be freed.
        """
        while True:
            await self._woken.wait()
            self._woken.clear()
            await self._gather()
            while batch := await self._next_batch():
                self._tell(await self._run_batch(batch), on_done)
                self._to_free += on_kv(self._engine.kv_bytes())
                self._batch_over.set()
                await self._gather()

    async def _gather(self) -> None:
        """Wait a moment for sessions that are about to step again, where that pays."""
        loop, before = asyncio.get_running_loop(), self._scheduler.sessions
        wait_s = self._gathering.wait_s(before, self._chunk.decode_s)
        if not wait_s:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(loop.time() + wait_s):
                while self._scheduler.sessions < self._gathering.expected:
                    self._woken.clear()
                    await self._woken.wait()
        self._gathering.waited(self._scheduler.sessions - before)

    async def _next_batch(self) -> list[Work]:
        """The next works, when nothing is left to be freed: a session that came back starts afresh."""
        while self._to_free:
            freed, self._to_free = self._to_free, []
            self._joiner.forget(freed)
            await self._thread.run(self._engine.drop, freed)
        return self._scheduler.next_batch(self._chunk.rows)

    async def batch_over(self) -> None:
        """Wait until the next batch is over and its results are told."""
        self._batch_over.clear()
        await self._batch_over.wait()

    def close(self) -> None:
        """End the thread after its present batch."""
        self._thread.close()

    async def _run_batch(self, batch: list[Work]) -> list[Done]:
        rows, chunk_rows = sum(work.count for work in batch), self._scheduler.prefill_rows
        self._running = frozenset(work.address for work in batch)
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        try:
            done = await self._thread.run(self._engine.run, batch, started_s)
        except Exception as error:
            # The engine keeps failures to their sessions; one that it can't must not stop the heartbeat.
            log.exception("engine_failed")
            broken = EngineError(f"the worker's engine failed ({type(error).__name__}): open elsewhere")
            done = [Done(work, error=broken) for work in batch]
        finally:
            self._gathering.ran(self._running)
            self._running = frozenset()
        seconds = loop.time() - started_s
        self.pace.observe(rows, seconds)
        self._chunk.observe(rows - chunk_rows, chunk_rows, seconds)
        self.batches += 1
        self.rows += rows
        return done

    def _tell(self, done: Sequence[Done], on_done: OnDone) -> None:
        for item in done:
            try:
                whole = self._joiner.join(item)
                if whole is not None:
                    on_done(whole)
            except Exception:
                # One session's result must not stop the heartbeat of all others.
                log.exception("result_failed", session=item.work.address.session)
