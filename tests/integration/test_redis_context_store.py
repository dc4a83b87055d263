"""The Redis store beyond the contract: retries, faults, keys, secrets, and its layout."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import redis.asyncio as aioredis
from redis.crc import key_slot

from shared.context.layout import decode_record, encode_record
from shared.context.redis import RedisContextStore, _keys
from shared.context.store import LogRecord
from shared.errors import ConfigError, ContextGapError, StaleEpochError, StoreError
from shared.wire.topics import SessionAddress
from tests.redis_proxy import ReplyEater
from tests.servers import RedisServer

KEY = SessionAddress("home", "hub", "s1")
META, LOG = _keys(KEY)


def rows(from_position: int, count: int) -> LogRecord:
    return LogRecord(from_position, count, "fp16", bytes(range(count * 4)))


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[RedisContextStore]:
    adapter = RedisContextStore(redis_server.url, ttl_s=30)
    yield adapter
    await adapter.aclose()


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator[aioredis.Redis]:
    async with aioredis.Redis.from_url(redis_server.url) as plain:
        yield plain


async def test_a_retried_append_is_applied_once(redis_server: RedisServer, client: aioredis.Redis) -> None:
    """redis-py sends a command again when the reply is lost; a bare RPUSH would be there twice."""
    direct = RedisContextStore(redis_server.url)
    await direct.claim(KEY, 1, "d")
    await direct.append(KEY, 1, rows(0, 2))
    async with ReplyEater(redis_server.host, redis_server.port, lambda script: script == 1) as proxy:
        retrying = RedisContextStore(proxy.url)
        assert await retrying.append(KEY, 1, rows(2, 3)) == 5
        await retrying.aclose()
    assert proxy.scripts_seen == 2
    assert await client.llen(LOG) == 2
    assert (await direct.claim(KEY, 1, "d")).records == (rows(0, 2), rows(2, 3))
    await direct.aclose()


async def test_a_script_that_redis_forgot_is_loaded_again(
    store: RedisContextStore, client: aioredis.Redis
) -> None:
    await store.append(KEY, 1, rows(0, 1))
    await client.script_flush()
    assert await store.append(KEY, 1, rows(1, 1)) == 2


async def test_both_keys_live_in_one_cluster_slot() -> None:
    meta, log = _keys(SessionAddress("home", "{hub}", "s}1"))
    assert key_slot(meta.encode()) == key_slot(log.encode())


async def test_every_key_expires_and_every_write_renews(
    store: RedisContextStore, client: aioredis.Redis
) -> None:
    await store.claim(KEY, 1, "d")
    await store.append(KEY, 1, rows(0, 1))
    await client.pexpire(META, 5_000)
    await client.pexpire(LOG, 5_000)
    await store.append(KEY, 1, rows(0, 1))
    assert min(await client.pttl(META), await client.pttl(LOG)) > 20_000
    await store.close(KEY, 1)
    assert await client.keys("*") == [META.encode()]
    assert 0 < await client.pttl(META) <= 30_000


async def test_rows_evicted_apart_from_their_epoch_are_a_short_log(
    store: RedisContextStore, client: aioredis.Redis
) -> None:
    """maxmemory policies evict single keys; what is left must not be taken for the whole."""
    await store.claim(KEY, 2, "d")
    await store.append(KEY, 2, rows(0, 4))
    await client.delete(LOG)
    with pytest.raises(ContextGapError) as refusal:
        await store.append(KEY, 2, rows(4, 1))
    assert refusal.value.frontier == 0
    assert await store.append(KEY, 2, rows(0, 4)) == 4
    await client.delete(META)
    assert (await store.claim(KEY, 2, "d")).frontier == 0


async def test_rows_without_an_owner_are_dropped_before_a_write(
    store: RedisContextStore, client: aioredis.Redis
) -> None:
    await store.append(KEY, 2, rows(0, 4))
    await client.delete(META)
    with pytest.raises(ContextGapError):
        await store.append(KEY, 2, rows(4, 1))


@pytest.mark.parametrize("blob", [b"", b"short", b"\0" * 9, encode_record(rows(3, 1))])
async def test_a_log_that_is_not_ours_is_refused(
    store: RedisContextStore, client: aioredis.Redis, blob: bytes
) -> None:
    await store.claim(KEY, 1, "d")
    await client.rpush(LOG, blob)
    with pytest.raises(StoreError, match="not readable"):
        await store.claim(KEY, 1, "d")


async def test_a_key_of_another_kind_is_refused_as_a_store_error(
    store: RedisContextStore, client: aioredis.Redis
) -> None:
    await client.set(META, "x")
    with pytest.raises(StoreError):
        await store.append(KEY, 1, rows(0, 1))


async def test_a_full_redis_refuses_and_names_the_fix(
    store: RedisContextStore, client: aioredis.Redis
) -> None:
    await store.claim(KEY, 1, "d")
    await store.append(KEY, 1, rows(0, 1))
    await client.config_set("maxmemory", "1")
    fresh = SessionAddress("home", "hub", "fresh")
    for refused in (
        store.append(KEY, 1, rows(1, 1)),
        store.append(fresh, 1, rows(0, 1)),
        store.claim(fresh, 1, "d"),
    ):
        with pytest.raises(StoreError, match="maxmemory"):
            await refused
    await client.config_set("maxmemory", "0")
    assert (await store.claim(KEY, 1, "d")).records == (rows(0, 1),)


async def test_a_frozen_redis_is_an_error_within_the_bound(redis_server: RedisServer) -> None:
    """I3: every wait is bounded, retries included."""
    store = RedisContextStore(redis_server.url, timeout_s=0.2)
    await store.claim(KEY, 1, "d")
    redis_server.freeze()
    started_s = time.monotonic()
    try:
        with pytest.raises(StoreError):
            await store.append(KEY, 1, rows(0, 1))
        assert time.monotonic() - started_s < 2.0
    finally:
        redis_server.unfreeze()
        await store.aclose()


async def test_a_restarted_redis_is_used_again(redis_server: RedisServer, store: RedisContextStore) -> None:
    """It comes back empty: the log is short, and nothing else changed."""
    await store.append(KEY, 4, rows(0, 2))
    redis_server.kill()
    with pytest.raises(StoreError, match="check that Redis runs"):
        await store.append(KEY, 4, rows(2, 1))
    redis_server.start()
    with pytest.raises(ContextGapError):
        await store.append(KEY, 4, rows(2, 1))
    assert await store.append(KEY, 4, rows(0, 3)) == 3


async def test_a_wrong_password_is_never_shown(redis_server: RedisServer, client: aioredis.Redis) -> None:
    await client.config_set("requirepass", "right")
    store = RedisContextStore(f"redis://:hunter2@{redis_server.host}:{redis_server.port}/0")
    with pytest.raises(StoreError, match="user name and password") as refusal:
        await store.ping()
    assert "hunter2" not in repr(store) + str(refusal.value)
    assert refusal.value.__suppress_context__
    await store.aclose()


@pytest.mark.parametrize(
    "url", ["", "localhost", "http://h:1", "redis://", "redis://h:port/0", "redis://:secret@"]
)
def test_a_url_that_is_not_redis_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        RedisContextStore(url)
    assert "secret" not in str(refusal.value)


def test_the_layout_of_a_record_stays_what_older_builds_wrote() -> None:
    record = LogRecord(258, 2, "fp16", b"abcd")
    golden = b"\x00\x00\x01\x02\x00\x00\x00\x02\x04fp16abcd"
    assert encode_record(record) == golden
    assert decode_record(golden) == record


async def test_a_zombie_on_another_connection_is_fenced(
    redis_server: RedisServer, store: RedisContextStore
) -> None:
    """I7 between two processes' connections."""
    zombie = RedisContextStore(redis_server.url)
    await zombie.claim(KEY, 1, "d")
    await zombie.append(KEY, 1, rows(0, 1))
    assert (await store.claim(KEY, 2, "d")).frontier == 1
    with pytest.raises(StaleEpochError):
        await zombie.append(KEY, 1, rows(1, 1))
    await zombie.aclose()


async def test_more_calls_at_once_than_connections_wait_for_their_turn(store: RedisContextStore) -> None:
    sessions = [SessionAddress("home", "hub", f"s{number}") for number in range(100)]
    logs = await asyncio.gather(*(store.claim(session, 1, "digest") for session in sessions))
    assert {log.frontier for log in logs} == {0}
