"""A context store over a network, with an account of what may be in it.

The server takes a call when it arrives, whether or not its caller still waits: late, after a time-out, even
after the caller's death.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any

from shared.context.memory import MemoryContextStore
from shared.context.store import LogRecord, SessionLog
from shared.errors import AntiphonError, StoreError
from shared.wire.topics import SessionAddress
from tests.simulation.toy_model import ToyStates
from tests.simulation.trace import Trace
from tests.simulation.virtual_loop import Process, VirtualLoop
from tests.simulation.weather import Weather


class StoreServer:
    """What all workers of a storm share, and its bookkeeper.

    Attributes:
        truth: the states of every session, as its edge has them.
        wrong: what was let in although it should not have been.
    """

    def __init__(self, loop: VirtualLoop, weather: Weather, trace: Trace, ttl_s: float) -> None:
        self.inner = MemoryContextStore(ttl_s=ttl_s, clock=loop.time)
        self.truth: dict[SessionAddress, ToyStates] = {}
        self.wrong: list[str] = []
        self._loop = loop
        self._trace = trace
        self._weather = weather
        self._random = weather.stream("store")
        self._down_until_s = 0.0
        self._hangs = False
        self._newest: dict[SessionAddress, int] = {}
        self._own = copy_context()

    def fail(self, down_s: float) -> None:
        """Refuse every call for a while, or keep silent."""
        self._hangs = self._random.random() < 0.5
        self._down_until_s = self._loop.time() + down_s

    def empty(self) -> None:
        """Lose everything, fences too."""
        self.inner._entries.clear()
        self.inner._nbytes = 0
        self._newest.clear()

    def held(self) -> int:
        """Sessions of which something is kept."""
        self.inner._expire()
        return len(self.inner)

    async def call(self, process: Process, operation: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """One call over the network."""
        reply = self._loop.create_future()
        if process.killed:
            raise StoreError("the caller is dead")
        self._loop.call_later(self._leg_s(), self._serve, operation, reply, context=self._own)
        return await reply

    def claimed(self, key: SessionAddress, epoch: int, log: SessionLog) -> None:
        """Account for a claim that was let in."""
        self._note(key, epoch, "claim")
        self._check_rows(key, log.records)

    def appended(self, key: SessionAddress, epoch: int, record: LogRecord) -> None:
        """Account for a write that was let in."""
        self._note(key, epoch, "append")
        self._check_rows(key, (record,))

    def _note(self, key: SessionAddress, epoch: int, what: str) -> None:
        self._trace.add(f"store_{what}", f"{key.session} epoch={epoch}")
        newest = self._newest.get(key, 0)
        if epoch < newest:
            self.wrong.append(f"{what} of epoch {epoch} after epoch {newest}: {key}")
        self._newest[key] = max(epoch, newest)

    def _check_rows(self, key: SessionAddress, records: tuple[LogRecord, ...]) -> None:
        for record in records:
            if not self.truth[key].ever_had(record.from_position, record.states):
                self.wrong.append(f"rows from {record.from_position} on are not the edge's: {key}")

    def _leg_s(self) -> float:
        slow = self._random.random() < self._weather.slow_store
        return self._random.uniform(0.05, 0.6) if slow else self._random.uniform(0.0001, 0.002)

    def _serve(self, operation: Callable[[], Coroutine[Any, Any, Any]], reply: asyncio.Future[Any]) -> None:
        down = self._loop.time() < self._down_until_s
        if down and self._hangs:
            return
        fails = self._random.random() < self._weather.failing_store
        result: Any = StoreError("the store is out of order")
        # Half of what fails was done all the same.
        if not down and not (fails and self._random.random() < 0.5):
            done = run_now(operation())
            result = result if fails else done
        self._loop.call_later(self._leg_s(), _settle, reply, result)


class StoreClient:
    """One worker's way to the store: a `ContextStore`."""

    def __init__(self, server: StoreServer, process: Process) -> None:
        self._server = server
        self._process = process

    async def claim(self, key: SessionAddress, epoch: int, digest: str) -> SessionLog:
        """See `ContextStore.claim`."""

        async def operation() -> SessionLog:
            log = await self._server.inner.claim(key, epoch, digest)
            self._server.claimed(key, epoch, log)
            return log

        log: SessionLog = await self._server.call(self._process, operation)
        return log

    async def append(self, key: SessionAddress, epoch: int, record: LogRecord) -> int:
        """See `ContextStore.append`."""

        async def operation() -> int:
            frontier = await self._server.inner.append(key, epoch, record)
            self._server.appended(key, epoch, record)
            return frontier

        frontier: int = await self._server.call(self._process, operation)
        return frontier

    async def close(self, key: SessionAddress, epoch: int) -> None:
        """See `ContextStore.close`."""
        await self._server.call(self._process, lambda: self._server.inner.close(key, epoch))

    async def aclose(self) -> None:
        """The store outlives its clients."""


def run_now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that never waits, or its error."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    except AntiphonError as error:
        return error
    raise RuntimeError("the memory store waited")


def _settle(reply: asyncio.Future[Any], result: Any) -> None:
    if reply.done():
        return
    if isinstance(result, Exception):
        reply.set_exception(result)
    else:
        reply.set_result(result)
