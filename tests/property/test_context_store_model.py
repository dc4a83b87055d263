"""Random writes against the plainest model there is: a list of rows."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.context.memory import MemoryContextStore
from shared.context.redis import RedisContextStore
from shared.context.store import ContextStore, LogRecord
from shared.errors import ContextGapError, StaleEpochError
from shared.wire.topics import SessionAddress
from tests.servers import RedisServer

ROW_BYTES = 4
DIGEST = "d"

# (kind, epoch, position, rows, fill): small numbers, so that overlaps, duplicates and gaps are common.
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "append", "append", "claim", "close"]),
        st.integers(1, 3),
        st.integers(0, 12),
        st.integers(1, 4),
        st.integers(0, 1),
    ),
    max_size=40,
)


def row(position: int, fill: int) -> bytes:
    return bytes([position, fill]) * (ROW_BYTES // 2)


class Model:
    """What a session's log has to be: rows, where its records begin, and the epoch that owns it."""

    def __init__(self) -> None:
        self.epoch = 0
        self.rows: list[bytes] = []
        self.starts: list[int] = []

    def append(self, epoch: int, record: LogRecord) -> int:
        if epoch < self.epoch:
            raise StaleEpochError
        if record.from_position > len(self.rows):
            raise ContextGapError("", len(self.rows))
        self.epoch = epoch
        if not self.holds(record):
            self.starts = [start for start in self.starts if start < record.from_position]
            self.starts.append(record.from_position)
            self.rows[record.from_position :] = split(record)
        return len(self.rows)

    def holds(self, record: LogRecord) -> bool:
        ends = [*self.starts[1:], len(self.rows)]
        at = (record.from_position, record.end_position)
        return at in list(zip(self.starts, ends, strict=False)) and self.rows[at[0] : at[1]] == split(record)

    def claim(self, epoch: int) -> list[bytes]:
        if epoch < self.epoch:
            raise StaleEpochError
        self.epoch = epoch
        return self.rows

    def close(self, epoch: int) -> None:
        if epoch >= self.epoch:
            self.epoch, self.rows, self.starts = epoch, [], []


def split(record: LogRecord) -> list[bytes]:
    return [record.states[at : at + ROW_BYTES] for at in range(0, len(record.states), ROW_BYTES)]


async def outcome_of(store: ContextStore, key: SessionAddress, operation: tuple[Any, ...]) -> object:
    kind, epoch, position, count, fill = operation
    try:
        if kind == "append":
            return await store.append(key, epoch, chunk(position, count, fill))
        if kind == "close":
            return await store.close(key, epoch)
        log = await store.claim(key, epoch, DIGEST)
    except StaleEpochError:
        return "stale"
    except ContextGapError as error:
        return ("gap", error.frontier)
    return [row for record in log.records for row in split(record)]


def expected_of(model: Model, operation: tuple[Any, ...]) -> object:
    kind, epoch, position, count, fill = operation
    try:
        if kind == "append":
            return model.append(epoch, chunk(position, count, fill))
        if kind == "close":
            return model.close(epoch)
        return list(model.claim(epoch))
    except StaleEpochError:
        return "stale"
    except ContextGapError as error:
        return ("gap", error.frontier)


def chunk(position: int, count: int, fill: int) -> LogRecord:
    states = b"".join(row(each, fill) for each in range(position, position + count))
    return LogRecord(position, count, "fp16", states)


async def check(store: ContextStore, operations: list[tuple[Any, ...]]) -> None:
    key, model = SessionAddress("home", "hub", uuid.uuid4().hex), Model()
    for operation in [("claim", 1, 0, 1, 0), *operations, ("claim", 3, 0, 1, 0)]:
        assert await outcome_of(store, key, operation) == expected_of(model, operation), operation


@given(operations=OPERATIONS)
@settings(max_examples=300, deadline=None)
def test_the_memory_store_is_the_model(operations: list[tuple[Any, ...]]) -> None:
    asyncio.run(check(MemoryContextStore(), operations))


@given(operations=OPERATIONS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_redis_is_the_model(redis_server: RedisServer, operations: list[tuple[Any, ...]]) -> None:
    async def run() -> None:
        store = RedisContextStore(redis_server.url, timeout_s=5.0)
        try:
            await check(store, operations)
        finally:
            await store.aclose()

    asyncio.run(run())
