"""Worker processes at a broker, and edges without models around them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from broker.connect import transport_for
from ops.bench.cores import Pinned, own_cores, pin
from ops.bench.installation import TENANT, bench_settings, broker_server, until_ready
from ops.bench.worker.one_by_one import serve_one_by_one
from ops.bench.worker.stepper import States, Stepper
from ops.readiness import Readiness
from ops.roles import serve_worker
from ops.stack import Stack
from shared.config import Settings
from shared.model.bundle import Bundle
from shared.wire.ids import new_id
from shared.wire.topics import SessionAddress


@dataclass
class Pool:
    """Workers that are ready.

    Attributes:
        pids: of the workers' processes.
    """

    bundle: Bundle
    settings: Settings
    states: States
    pids: list[int]

    @asynccontextmanager
    async def steppers(self, count: int, tokens: int) -> AsyncIterator[list[Stepper]]:
        """So many edges with an open session each, whose prompts of `tokens` are read."""
        async with AsyncExitStack() as stack:
            steppers = [await self._stepper(stack, number) for number in range(count)]
            await asyncio.gather(*(stepper.open() for stepper in steppers))
            await asyncio.gather(*(stepper.prefill(tokens) for stepper in steppers))
            yield steppers
            for stepper in steppers:
                stepper.close()

    async def _stepper(self, stack: AsyncExitStack, number: int) -> Stepper:
        edge = f"edge-{number}"
        transport = transport_for(self.settings.broker, f"{TENANT}.edge.{edge}")
        await stack.enter_async_context(transport)
        address = SessionAddress(TENANT, edge, new_id("s-"))
        return Stepper(transport, address, self.bundle, number, self.states)


@asynccontextmanager
async def pool_of(
    folder: Path, bundle: Bundle, *, workers: int = 1, packed: bool = True, embedded: bool = False
) -> AsyncIterator[Pool]:
    """Start a broker and workers; all are gone at the end.

    This process and the broker share one core, the first worker has another, and a second worker
    shares the first core where there are only two.

    Args:
        folder: for the broker's files.
        bundle: what the workers serve.
        workers: how many.
        packed: sessions share forwards; else each forward is one session's.
        embedded: use the embedded broker even where Mosquitto is installed.

    Raises:
        LinkError: they are not ready in time.
    """
    cores = own_cores()
    with _pinned_here(cores), broker_server(folder, embedded=embedded) as broker:
        settings = bench_settings(
            broker, bundle.path, worker__max_context_tokens=bundle.max_positions, worker__kv_budget_mib=8192
        )
        stack = _stack(settings, workers, cores, packed=packed)
        try:
            stack.start_all()
            async with transport_for(settings.broker, new_id("bench-"), None) as transport:
                await until_ready(Readiness(transport, TENANT), edges=0, workers=workers)
            yield Pool(bundle, settings, States(bundle), _pids(stack))
        finally:
            await stack.stop()


@contextmanager
def _pinned_here(cores: list[int]) -> Iterator[None]:
    """This process, and the broker that it starts, on the first core; workers are pinned elsewhere."""
    if len(cores) < 2:
        yield
        return
    pin(cores[0])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _stack(settings: Settings, workers: int, cores: list[int], *, packed: bool) -> Stack:
    stack = Stack(settings, workers=workers, own_broker=False, restart=False)
    del stack.members["edge"]  # its place is taken by edges without models
    for number, member in enumerate(stack.members.values(), start=1):
        core = cores[number % len(cores)] if len(cores) > 1 else None
        member.role = Pinned(serve_worker if packed else serve_one_by_one, core)
    return stack


def _pids(stack: Stack) -> list[int]:
    processes = [member.process for member in stack.members.values()]
    return [process.pid for process in processes if process is not None and process.pid is not None]
