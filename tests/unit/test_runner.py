"""The worker's heartbeat over an engine that answers at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from cloud_worker.runner import Runner
from cloud_worker.scheduler import Scheduler
from cloud_worker.work import Done, Work
from shared.errors import ContextGapError
from shared.wire.messages import DrawnToken
from shared.wire.topics import SessionAddress
from tests.waiting import eventually


class Engine:
    """Draws its own position for every wanted token; may fail at a row."""

    layers = 1

    def __init__(self) -> None:
        self.batches: list[list[tuple[str, int]]] = []
        self.fails_at = -1

    def drop(self, addresses: Sequence[SessionAddress]) -> None:
        pass

    def kv_bytes(self) -> dict[SessionAddress, int]:
        return {}

    def run(self, batch: Sequence[Work], now_s: float) -> list[Done]:
        self.batches.append([(work.address.session, work.count) for work in batch])
        return [self._run(work) for work in batch]

    def _run(self, work: Work) -> Done:
        if work.from_position <= self.fails_at < work.end_position:
            return Done(work, error=ContextGapError("gap", 0))
        return Done(work, tuple(DrawnToken(position, position, 1.0) for position in work.wants))


class Heartbeat:
    def __init__(self) -> None:
        self.engine = Engine()
        self.scheduler = Scheduler()
        self.runner = Runner(self.engine, self.scheduler)  # type: ignore[arg-type]
        self.done: list[Done] = []

    def add(self, name: str, count: int, *wants: int) -> Work:
        address = SessionAddress("home", "hub", name)
        work = replace(Work(address, 1, 1, 0, count, "fp16", bytes(count)), wants=wants)
        self.scheduler.add(work)
        return work

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.runner.run(self.done.append, lambda _: ()))
        self.runner.wake()
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self.runner.close()


async def test_a_work_that_runs_in_parts_is_told_once_and_whole():
    heart = Heartbeat()
    whole = heart.add("prompt", 1200, 7, 1199)
    async with heart.beating():
        await eventually(lambda: heart.done)
    assert len(heart.engine.batches) > 2
    assert [done.work for done in heart.done] == [whole]
    assert [token.position for token in heart.done[0].tokens] == [7, 1199]


async def test_a_token_is_drawn_before_the_rest_of_a_prompt():
    heart = Heartbeat()
    heart.add("prompt", 5000, 4999)
    heart.add("token", 1, 0)
    async with heart.beating():
        await eventually(lambda: len(heart.done) == 2)
    assert [done.work.address.session for done in heart.done] == ["token", "prompt"]
    assert heart.engine.batches[0][0] == ("token", 1)


async def test_a_part_that_fails_is_a_gap_before_the_whole_work():
    heart = Heartbeat()
    whole = heart.add("prompt", 1200)
    heart.engine.fails_at = 600
    async with heart.beating():
        await eventually(lambda: heart.done)
    assert heart.done[0].work is whole
    assert isinstance(heart.done[0].error, ContextGapError)
