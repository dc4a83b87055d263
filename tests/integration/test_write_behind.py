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
    assert not log.append(KEY, 1, rows(3))
    again = await log.claim(KEY, 1, "d")
    assert again is not None
    assert again.frontier == 2
    assert log.append(KEY, 1, rows(2))


async def test_a_log_with_a_hole_goes_on_from_rows_that_begin_where_it_ends(
    log: WriteBehindLog, store: MemoryContextStore
) -> None:
    """What an edge sends again is what is missing."""
    await log.claim(KEY, 1, "d")
    log.append(KEY, 1, rows(0, 2))
    log.append(KEY, 1, rows(5))
    await eventually(lambda: not log.is_logged(KEY))
    assert [log.append(KEY, 1, rows(position)) for position in (3, 2, 3)] == [False, True, True]
    await eventually(lambda: log.backlog_bytes == 0)
    assert (await store.claim(KEY, 2, "d")).records == (rows(0, 2), rows(2), rows(3))
    assert log.unlogged_sessions == 1


async def test_a_log_that_the_store_lost_begins_anew_when_all_rows_come_again(
    log: WriteBehindLog, store: MemoryContextStore
) -> None:
    await log.claim(KEY, 1, "d")
    log.append(KEY, 1, rows(0, 4))
    await eventually(lambda: log.backlog_bytes == 0)
    await store.aclose()  # which forgets everything
    log.append(KEY, 1, rows(4))
    await eventually(lambda: not log.is_logged(KEY))
    assert log.append(KEY, 1, rows(0, 5))
    await eventually(lambda: log.backlog_bytes == 0)
    assert (await store.claim(KEY, 2, "d")).records == (rows(0, 5),)


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


async def test_a_lost_store_costs_no_wait_and_rows_wait_for_it(
    redis_server: RedisServer, redis_log: WriteBehindLog
) -> None:
    await redis_log.claim(KEY, 1, "d")
    redis_server.kill()
    started_s = time.monotonic()
    assert all(redis_log.append(KEY, 1, rows(position)) for position in range(100))
    assert time.monotonic() - started_s < 0.1
    await eventually(lambda: redis_log._guard.is_paused)
    assert await redis_log.claim(OTHER, 1, "d") is None
    assert redis_log.append(OTHER, 1, rows(0, 9))
    redis_server.start()
    await eventually(lambda: redis_log.backlog_bytes == 0)
    reader = RedisContextStore(redis_server.url)
    assert [(await reader.claim(key, 2, "d")).frontier for key in (KEY, OTHER)] == [100, 9]
    assert redis_log.unlogged_sessions == 0
    await reader.aclose()


async def test_a_store_that_stays_away_costs_no_more_memory_than_the_backlog_may_have(
    redis_server: RedisServer,
) -> None:
    """I6."""
    log = WriteBehindLog(RedisContextStore(redis_server.url), max_backlog_bytes=400)
    log.start()
    await log.claim(KEY, 1, "d")
    await log.claim(OTHER, 1, "d")
    redis_server.kill()
    assert all(log.append(OTHER, 1, rows(position)) for position in range(50))
    taken = [log.append(KEY, 1, rows(position)) for position in range(100)]
    assert taken.count(True) == 50
    assert (log.is_logged(KEY), log.is_logged(OTHER), log.backlog_bytes) == (False, True, 200)
    await log.aclose(timeout_s=0.1)


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


async def test_a_session_of_which_the_store_lost_rows_is_logged_again_from_its_next_claim(
    redis_server: RedisServer, redis_log: WriteBehindLog
) -> None:
    await redis_log.claim(KEY, 1, "d")
    redis_log.append(KEY, 1, rows(0))
    await eventually(lambda: redis_log.backlog_bytes == 0)
    redis_server.kill()
    redis_log.append(KEY, 1, rows(1))
    redis_server.start()
    await eventually(lambda: not redis_log.is_logged(KEY))
    again = await redis_log.claim(KEY, 2, "d")
    assert again is not None
    assert again.frontier == 0
    assert redis_log.append(KEY, 2, rows(0))


class OneBadKey(MemoryContextStore):
    """Keeps silent about one session: no real store does that on command."""

    def __init__(self, bad: SessionAddress) -> None:
        super().__init__()
        self._bad = bad

    async def append(self, key: SessionAddress, epoch: int, record: LogRecord) -> int:
        if key == self._bad:
            await asyncio.Event().wait()
        return await super().append(key, epoch, record)


async def test_a_session_that_alone_gets_no_answer_is_unlogged_and_the_others_are_written() -> None:
    """A store that serves others in between is not away."""
    store = OneBadKey(KEY)
    log = WriteBehindLog(store, call_timeout_s=0.05, pause_s=0.05)
    log.start()
    for key in (KEY, OTHER):
        await log.claim(key, 1, "d")
        log.append(key, 1, rows(0))
    await eventually(lambda: not log.is_logged(KEY))
    assert log.is_logged(OTHER)
    assert (log.backlog_bytes, log.unlogged_sessions) == (0, 1)
    assert (await store.claim(OTHER, 2, "d")).frontier == 1
    await log.aclose()


async def test_closing_a_session_that_is_not_logged_here_deletes_its_rows(
    log: WriteBehindLog, store: MemoryContextStore
) -> None:
    """Evicted here, or written by another worker."""
    await store.claim(KEY, 3, "d")
    await store.append(KEY, 3, rows(0, 3))
    log.close(KEY, 3)
    async with asyncio.timeout(5):
        await log._idle.wait()
    assert store.nbytes == len(log._sessions) == 0


async def test_closing_an_older_epoch_leaves_the_newer_ones_rows(
    log: WriteBehindLog, store: MemoryContextStore
) -> None:
    await store.claim(KEY, 3, "d")
    await store.append(KEY, 3, rows(0, 3))
    log.close(KEY, 2)
    async with asyncio.timeout(5):
        await log._idle.wait()
    assert (await store.claim(KEY, 3, "d")).frontier == 3
    await log.claim(KEY, 3, "d")
    log.close(KEY, 2)
    assert log.append(KEY, 3, rows(3))


async def test_closes_of_unknown_sessions_are_bounded_and_unlog_nobody(store: MemoryContextStore) -> None:
    log = WriteBehindLog(store, max_sessions=4)
    await log.claim(KEY, 1, "d")
    for number in range(100):
        log.close(SessionAddress("home", "hub", f"unknown-{number}"), 1)
    assert log.append(KEY, 1, rows(0))
    assert len(log._sessions) <= 4
    log.start()
    await eventually(lambda: log.backlog_bytes == 0)
    assert (await store.claim(KEY, 1, "d")).frontier == 1
    await log.aclose()


async def test_a_session_that_is_closed_while_the_store_is_away_is_deleted_when_it_is_back(
    redis_server: RedisServer, redis_log: WriteBehindLog
) -> None:
    await redis_log.claim(KEY, 1, "d")
    redis_log.append(KEY, 1, rows(0, 3))
    await eventually(lambda: redis_log.backlog_bytes == 0)
    redis_server.freeze()
    assert await redis_log.claim(OTHER, 1, "d") is None
    redis_log.close(KEY, 1)
    redis_server.unfreeze()
    await eventually(lambda: not redis_log.is_logged(KEY))
    reader = RedisContextStore(redis_server.url)
    assert (await reader.claim(KEY, 2, "d")).frontier == 0
    await reader.aclose()


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
