"""Logs behind the replies: whatever the store does, a session goes on and its log is right or short."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from shared.context.memory import MemoryContextStore
from shared.context.redis import RedisContextStore
from shared.context.store import LogRecord
from shared.context.write_behind import WriteBehindLog
from shared.errors import StaleEpochError
from shared.wire.topics import SessionAddress
from tests.servers import RedisServer
from tests.waiting import eventually

KEY = SessionAddress("home", "hub", "s1")
OTHER = SessionAddress("home", "hub", "s2")


def rows(from_position: int, count: int = 1) -> LogRecord:
    return LogRecord(from_position, count, "fp16", bytes(4 * count))


@pytest.fixture
async def store() -> MemoryContextStore:
    return MemoryContextStore()


@pytest.fixture
async def log(store: MemoryContextStore) -> AsyncIterator[WriteBehindLog]:
    behind = WriteBehindLog(store)
    behind.start()
    yield behind
    await behind.aclose()


@pytest.fixture
async def redis_log(redis_server: RedisServer) -> AsyncIterator[WriteBehindLog]:
    behind = WriteBehindLog(
        RedisContextStore(redis_server.url, timeout_s=0.3), call_timeout_s=0.5, pause_s=0.2
    )
    behind.start()
    yield behind
    await behind.aclose(timeout_s=1.0)


async def test_rows_reach_the_store_in_order(log: WriteBehindLog, store: MemoryContextStore) -> None:
    await log.claim(KEY, 1, "d")
    assert all(log.append(KEY, 1, rows(position)) for position in range(50))
    await eventually(lambda: log.backlog_bytes == 0)
    assert (await store.claim(KEY, 1, "d")).frontier == 50


async def test_a_claim_in_the_same_epoch_sees_what_was_appended_before_it(log: WriteBehindLog) -> None:
    """A worker that evicted a session rebuilds it from its own writes."""
    await log.claim(KEY, 1, "d")
    for position in range(20):
        log.append(KEY, 1, rows(position))
    again = await log.claim(KEY, 1, "d")
    assert again is not None
    assert again.frontier == 20


async def test_rows_of_an_older_epoch_are_not_taken(log: WriteBehindLog, store: MemoryContextStore) -> None:
    await log.claim(KEY, 2, "d")
    assert not log.append(KEY, 1, rows(0))
    with pytest.raises(StaleEpochError):
        await log.claim(KEY, 1, "d")
    assert log.append(KEY, 2, rows(0))


async def test_a_session_that_another_worker_took_is_unlogged(
    log: WriteBehindLog, store: MemoryContextStore
) -> None:
    await log.claim(KEY, 1, "d")
    await store.claim(KEY, 2, "d")
    log.append(KEY, 1, rows(0))
    await eventually(lambda: not log.is_logged(KEY))
    assert (await store.claim(KEY, 2, "d")).frontier == 0
    with pytest.raises(StaleEpochError):
        await log.claim(KEY, 1, "d")


async def test_a_gap_unlogs_the_session_until_it_is_claimed_again(log: WriteBehindLog) -> None:
    await log.claim(KEY, 1, "d")
    log.append(KEY, 1, rows(0, 2))
    log.append(KEY, 1, rows(5))
    await eventually(lambda: not log.is_logged(KEY))
    assert not log.append(KEY, 1, rows(2))
    again = await log.claim(KEY, 1, "d")
    assert again is not None
    assert again.frontier == 2
    assert log.append(KEY, 1, rows(2))


async def test_a_full_backlog_unlogs_only_the_session_that_passes_it(store: MemoryContextStore) -> None:
    """I6, and the other sessions' rows stay."""
    log = WriteBehindLog(store, max_backlog_bytes=40)
    for key in (KEY, OTHER):
        await log.claim(key, 1, "d")
    assert log.append(OTHER, 1, rows(0, 5))
    assert log.append(KEY, 1, rows(0, 5))
    assert not log.append(KEY, 1, rows(5))
    assert (log.is_logged(KEY), log.is_logged(OTHER), log.backlog_bytes) == (False, True, 20)
    log.start()
    await eventually(lambda: log.backlog_bytes == 0)
    assert (await store.claim(OTHER, 1, "d")).frontier == 5
    await log.aclose()


async def test_the_number_of_logged_sessions_is_bounded(store: MemoryContextStore) -> None:
    log = WriteBehindLog(store, max_sessions=2)
    keys = [SessionAddress("home", "hub", str(number)) for number in range(3)]
    for key in keys:
        await log.claim(key, 1, "d")
    assert [log.is_logged(key) for key in keys] == [False, True, True]
    await log.aclose()


async def test_closing_a_session_deletes_its_rows(log: WriteBehindLog, store: MemoryContextStore) -> None:
    await log.claim(KEY, 1, "d")
    log.append(KEY, 1, rows(0, 3))
    log.close(KEY, 1)
    assert not log.append(KEY, 1, rows(3))
    await eventually(lambda: not log.is_logged(KEY))
    again = await log.claim(KEY, 1, "d")
    assert again is not None
    assert again.frontier == 0
    assert log.append(KEY, 1, rows(0))


async def test_a_forgotten_session_keeps_its_rows_in_the_store(
    log: WriteBehindLog, store: MemoryContextStore
) -> None:
    await log.claim(KEY, 1, "d")
    log.append(KEY, 1, rows(0, 3))
    await eventually(lambda: log.backlog_bytes == 0)
    log.forget(KEY)
    assert (await store.claim(KEY, 1, "d")).frontier == 3


async def test_stopping_writes_what_waits(redis_server: RedisServer) -> None:
    log = WriteBehindLog(RedisContextStore(redis_server.url))
    log.start()
    await log.claim(KEY, 1, "d")
    for position in range(200):
        log.append(KEY, 1, rows(position))
    await log.aclose()
    reader = RedisContextStore(redis_server.url)
    assert (await reader.claim(KEY, 2, "d")).frontier == 200
    await reader.aclose()


async def test_a_lost_store_costs_the_log_and_no_wait(
    redis_server: RedisServer, redis_log: WriteBehindLog
) -> None:
    await redis_log.claim(KEY, 1, "d")
    redis_server.kill()
    started_s = time.monotonic()
    for position in range(100):
        redis_log.append(KEY, 1, rows(position))
    assert time.monotonic() - started_s < 0.1
    await eventually(lambda: not redis_log.is_logged(KEY))
    assert redis_log.backlog_bytes == 0
    assert await redis_log.claim(OTHER, 1, "d") is None


async def test_a_frozen_store_delays_a_claim_by_its_bound_only_once(
    redis_server: RedisServer, redis_log: WriteBehindLog
) -> None:
    redis_server.freeze()
    try:
        assert await redis_log.claim(KEY, 1, "d") is None
        started_s = time.monotonic()
        assert await redis_log.claim(OTHER, 1, "d") is None
        assert time.monotonic() - started_s < 0.1
    finally:
        redis_server.unfreeze()


async def test_a_store_that_is_back_is_used_again(
    redis_server: RedisServer, redis_log: WriteBehindLog
) -> None:
    await redis_log.claim(KEY, 1, "d")
    redis_server.kill()
    redis_log.append(KEY, 1, rows(0))
    await eventually(lambda: not redis_log.is_logged(KEY))
    redis_server.start()
    async with asyncio.timeout(5):
        while (again := await redis_log.claim(KEY, 2, "d")) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert again.frontier == 0
    assert redis_log.append(KEY, 2, rows(0))


async def test_stopping_with_a_frozen_store_is_bounded(redis_server: RedisServer) -> None:
    log = WriteBehindLog(RedisContextStore(redis_server.url, timeout_s=5), call_timeout_s=5)
    log.start()
    await log.claim(KEY, 1, "d")
    redis_server.freeze()
    try:
        log.append(KEY, 1, rows(0))
        started_s = time.monotonic()
        await log.aclose(timeout_s=0.2)
        assert time.monotonic() - started_s < 2.0
    finally:
        redis_server.unfreeze()


async def test_another_worker_takes_up_where_the_log_of_a_dead_one_ends(redis_server: RedisServer) -> None:
    """I1, I7: its rows are there, and its last writes are not let in."""
    dead, heir = (
        WriteBehindLog(RedisContextStore(redis_server.url)),
        WriteBehindLog(RedisContextStore(redis_server.url)),
    )
    dead.start()
    heir.start()
    await dead.claim(KEY, 1, "d")
    dead.append(KEY, 1, rows(0, 7))
    await eventually(lambda: dead.backlog_bytes == 0)
    await dead.claim(KEY, 1, "d")
    taken = await heir.claim(KEY, 2, "d")
    assert taken is not None
    assert taken.records == (rows(0, 7),)
    dead.append(KEY, 1, rows(7))
    assert heir.append(KEY, 2, rows(7, 2))
    await eventually(lambda: not dead.is_logged(KEY))
    again = await heir.claim(KEY, 2, "d")
    assert again is not None
    assert again.frontier == 9
    await dead.aclose()
    await heir.aclose()
