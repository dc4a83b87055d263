"""The worker's heartbeat: next batch, packed forward on the engine thread, results; again.

While a forward runs, new steps gather in the scheduler: they are the next batch. Nothing waits for a
timer, so a lone step never pays for batching.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from cloud_worker.engine import CloudEngine
from cloud_worker.scheduler import Scheduler
from cloud_worker.work import Done, Work
from shared.wire.topics import SessionAddress

log = structlog.get_logger(__name__)


class Runner:
    """Owns the engine's thread.

    Args:
        engine: used from that thread alone.
        scheduler: where works wait.
        on_done: gets each finished work, on the event loop.
        on_kv: gets the bytes of every session's cache after each batch; returns the sessions whose
            caches are to be freed.
    """

    def __init__(
        self,
        engine: CloudEngine,
        scheduler: Scheduler,
        on_done: Callable[[Done], None],
        on_kv: Callable[[Mapping[SessionAddress, int]], Sequence[SessionAddress]],
    ) -> None:
        self._engine = engine
        self._scheduler = scheduler
        self._on_done = on_done
        self._on_kv = on_kv
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cloud-engine")
        self._woken = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._to_free: list[SessionAddress] = []
        self.batches = 0
        self.rows = 0

    def wake(self) -> None:
        """There is work."""
        self._idle.clear()
        self._woken.set()

    def free(self, addresses: Sequence[SessionAddress]) -> None:
        """Free sessions' caches before the next batch."""
        if addresses:
            self._to_free += addresses
            self.wake()

    async def run(self) -> None:
        """Run batches until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            await self._free_now()
            while batch := self._scheduler.next_batch():
                await self._run_batch(batch)
            self._idle.set()

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing is queued or running; whether that came in time."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """End the thread after its present batch."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _run_batch(self, batch: list[Work]) -> None:
        loop = asyncio.get_running_loop()
        done = await loop.run_in_executor(self._thread, self._engine.run, batch, loop.time())
        self.batches += 1
        self.rows += sum(work.count for work in batch)
        for item in done:
            try:
                self._on_done(item)
            except Exception:
                # One session's result must not stop the heartbeat of all others.
                log.exception("result_failed", session=item.work.address.session)
        self._to_free += self._on_kv(self._engine.kv_bytes())
        await self._free_now()

    async def _free_now(self) -> None:
        freed, self._to_free = self._to_free, []
        if freed:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.drop, freed)
