"""Redis fails in the middle of sessions: rows go on, and the next claim gets a true prefix or nothing."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import redis.asyncio as aioredis

from shared.context.redis import RedisContextStore
from shared.context.store import LogRecord, SessionLog
from shared.context.write_behind import WriteBehindLog
from shared.errors import StaleEpochError, StoreError
from shared.wire.topics import SessionAddress
from tests.conftest import need_binary
from tests.redis_cluster import ClusterNode, serve_slots
from tests.redis_proxy import ReplyEater
from tests.servers import HOST, REPOSITORY, RedisServer, free_port
from tests.waiting import eventually

KEY = SessionAddress("home", "hub", "s1")
DIGEST = "d"
CALL_TIMEOUT_S = 0.5
PAUSE_S = 0.2
BEFORE = 20  # rows in the store when the fault strikes
GUIDE = REPOSITORY / "docs" / "redis.md"


def row(position: int) -> bytes:
    """What position holds in every run: 32 bytes that no other position has."""
    return hashlib.sha256(str(position).encode()).digest()


def rows(from_position: int, count: int = 1) -> LogRecord:
    states = b"".join(map(row, range(from_position, from_position + count)))
    return LogRecord(from_position, count, "fp16", states)


def check_true_prefix(log: SessionLog) -> None:
    """Its rows are those of positions 0 … frontier, each once and in order."""
    assert b"".join(record.states for record in log.records) == rows(0, max(1, log.frontier)).states * bool(
        log.frontier
    )


Act = Callable[[RedisServer], Awaitable[object]]


def command(*words: str | int) -> Act:
    """Send one command to Redis."""

    async def send(server: RedisServer) -> object:
        async with aioredis.Redis(host=server.host, port=server.port) as client:
            return await client.execute_command(*words)

    return send


def memory(limit_bytes: int) -> Act:
    """Set what Redis may use; 0 is no limit."""
    return command("CONFIG", "SET", "maxmemory", limit_bytes)


def replicas(count: int) -> Act:
    """Set how many replicas Redis must have to take a write."""
    return command("CONFIG", "SET", "min-replicas-to-write", count)


async def kill(server: RedisServer) -> None:
    server.kill()


async def start(server: RedisServer) -> None:
    await asyncio.to_thread(server.start)


async def restart_empty(server: RedisServer) -> None:
    server.kill()
    await start(server)


async def freeze(server: RedisServer) -> None:
    server.freeze()


async def unfreeze(server: RedisServer) -> None:
    server.unfreeze()


async def nothing(_: RedisServer) -> None:
    pass


class Fault(NamedTuple):
    """What happens to Redis, how it becomes well again, and whether it still has the rows then."""

    name: str
    strike: Act
    heal: Act
    keeps: bool


FAULTS = [
    Fault("killed", kill, start, keeps=False),
    Fault("restarted empty", restart_empty, nothing, keeps=False),
    Fault("flushed", command("FLUSHALL"), nothing, keeps=False),
    Fault("out of memory", memory(1), memory(0), keeps=True),
    Fault(
        "read-only", command("REPLICAOF", HOST, free_port()), command("REPLICAOF", "NO", "ONE"), keeps=True
    ),
    Fault("paused", command("CLIENT", "PAUSE", 3_000, "ALL"), nothing, keeps=True),
    Fault("without its replicas", replicas(1), replicas(0), keeps=True),
    Fault("frozen", freeze, unfreeze, keeps=True),
]


@pytest.fixture
async def log(redis_server: RedisServer) -> AsyncIterator[WriteBehindLog]:
    behind = WriteBehindLog(
        RedisContextStore(redis_server.url, timeout_s=0.3), call_timeout_s=CALL_TIMEOUT_S, pause_s=PAUSE_S
    )
    behind.start()
    yield behind
    redis_server.unfreeze()
    await behind.aclose(timeout_s=1.0)


async def stored(server: RedisServer, epoch: int, key: SessionAddress = KEY) -> SessionLog:
    """The log as another worker finds it."""
    other = RedisContextStore(server.url, timeout_s=5.0)
    try:
        return await other.claim(key, epoch, DIGEST)
    finally:
        await other.aclose()


async def claimed(log: WriteBehindLog, epoch: int) -> SessionLog:
    """Claim until the store is of use."""
    async with asyncio.timeout(20):
        while (found := await log.claim(KEY, epoch, DIGEST)) is None:  # noqa: ASYNC110  it has no event for it
            await asyncio.sleep(PAUSE_S / 4)
    return found


async def begin(log: WriteBehindLog) -> None:
    """A session with rows in the store and none waiting."""
    await log.claim(KEY, 1, DIGEST)
    for position in range(BEFORE):
        assert log.append(KEY, 1, rows(position))
    again = await log.claim(KEY, 1, DIGEST)
    assert again is not None
    assert again.frontier == BEFORE


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.keeps], ids=lambda fault: fault.name)
async def test_rows_wait_for_a_redis_that_comes_back_with_its_data(
    fault: Fault, redis_server: RedisServer, log: WriteBehindLog
) -> None:
    await begin(log)
    await fault.strike(redis_server)
    for position in range(BEFORE, 2 * BEFORE):
        assert log.append(KEY, 1, rows(position))
    await eventually(lambda: log._guard.is_paused, timeout_s=10, what="the store to be left alone")
    assert log.backlog_bytes > 0
    await fault.heal(redis_server)
    await eventually(lambda: log.backlog_bytes == 0, timeout_s=20, what="the rows to be written")
    assert (log.is_logged(KEY), log.unlogged_sessions) == (True, 0)
    found = await stored(redis_server, 2)
    check_true_prefix(found)
    assert found.frontier == 2 * BEFORE


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if not fault.keeps], ids=lambda fault: fault.name
)
async def test_a_session_whose_rows_redis_lost_goes_on_and_is_logged_again_from_its_next_claim(
    fault: Fault, redis_server: RedisServer, log: WriteBehindLog
) -> None:
    await begin(log)
    await fault.strike(redis_server)
    for position in range(BEFORE, 2 * BEFORE):
        log.append(KEY, 1, rows(position))  # never waits: whether it is taken is the log's business
    await fault.heal(redis_server)
    await eventually(lambda: not log.is_logged(KEY), timeout_s=20, what="the session to be unlogged")
    assert (log.unlogged_sessions, log.backlog_bytes) == (1, 0)

    found = await claimed(log, 2)
    assert found.frontier == 0
    for position in range(3 * BEFORE):
        assert log.append(KEY, 2, rows(position))
    await eventually(lambda: log.backlog_bytes == 0)
    assert (await log.claim(KEY, 2, DIGEST)) is not None
    heir = await stored(redis_server, 3)
    check_true_prefix(heir)
    assert heir.frontier == 3 * BEFORE


@pytest.mark.parametrize("fault", [FAULTS[0], FAULTS[-1]], ids=lambda fault: fault.name)
async def test_appends_take_no_time_and_a_claim_its_bound_while_redis_is_away(
    fault: Fault, redis_server: RedisServer, log: WriteBehindLog
) -> None:
    """Generation goes on: what the event loop does for the log is nothing beside a token's time."""
    await begin(log)
    await fault.strike(redis_server)
    appended_s = time.process_time()
    for position in range(BEFORE, 500):
        log.append(KEY, 1, rows(position))
    assert time.process_time() - appended_s < 0.5
    async with asyncio.timeout(CALL_TIMEOUT_S + 5):
        assert await log.claim(KEY, 2, DIGEST) is None
    assert log.append(KEY, 2, rows(0))


async def test_a_slow_redis_costs_no_row(redis_server: RedisServer, log: WriteBehindLog) -> None:
    """Slower than a token, quicker than the bound: rows wait in the backlog, in order."""
    await begin(log)
    await command("CLIENT", "PAUSE", 150, "ALL")(redis_server)
    for position in range(BEFORE, 100):
        assert log.append(KEY, 1, rows(position))
    assert log.backlog_bytes == 80 * len(row(0))
    await eventually(lambda: log.backlog_bytes == 0, timeout_s=10)
    assert log.is_logged(KEY)
    found = await claimed(log, 1)
    check_true_prefix(found)
    assert (found.frontier, log.unlogged_sessions) == (100, 0)


async def test_a_redis_that_is_back_is_used_as_soon_as_the_pause_is_over(redis_server: RedisServer) -> None:
    now_s = 0.0
    log = WriteBehindLog(RedisContextStore(redis_server.url), pause_s=1.0, clock=lambda: now_s)
    redis_server.kill()
    assert await log.claim(KEY, 1, DIGEST) is None
    await start(redis_server)
    assert await log.claim(KEY, 1, DIGEST) is None
    now_s = 1.0
    found = await log.claim(KEY, 1, DIGEST)
    assert found is not None
    assert (found.frontier, log.unlogged_sessions) == (0, 0)
    assert log.append(KEY, 1, rows(0))
    await log.aclose(timeout_s=0.1)


async def test_a_session_that_was_opened_while_redis_was_away_is_logged_from_its_first_row(
    redis_server: RedisServer, log: WriteBehindLog
) -> None:
    """The store failed a moment ago, so nobody waits for it; the rows are claimed and written behind."""
    await freeze(redis_server)
    assert await log.claim(KEY._replace(session="s2"), 1, DIGEST) is None
    assert await log.claim(KEY, 5, DIGEST) is None
    await unfreeze(redis_server)
    for position in range(BEFORE):
        assert log.append(KEY, 5, rows(position))
    await eventually(lambda: log.backlog_bytes == 0)
    assert log.unlogged_sessions == 0
    with pytest.raises(StaleEpochError):  # the claim was made, so the fence is there
        await stored(redis_server, 4)
    found = await stored(redis_server, 6)
    check_true_prefix(found)
    assert found.frontier == BEFORE


async def test_a_session_that_went_on_while_redis_was_away_is_let_in_nowhere_but_at_its_logs_end(
    redis_server: RedisServer, log: WriteBehindLog
) -> None:
    """Opened anew at a worker that has it: its rows go on where the cache ends, not at 0."""
    await begin(log)
    await freeze(redis_server)
    assert await log.claim(KEY._replace(session="s2"), 1, DIGEST) is None
    assert await log.claim(KEY, 2, DIGEST) is None
    assert log.append(KEY, 2, rows(BEFORE + 5))
    await unfreeze(redis_server)
    await eventually(lambda: not log.is_logged(KEY))
    assert log.append(KEY, 2, rows(BEFORE))  # where the log ends
    await eventually(lambda: log.backlog_bytes == 0)
    found = await stored(redis_server, 3)
    check_true_prefix(found)
    assert found.frontier == BEFORE + 1


ON_KEYS = {
    "a foreign value": command("SET", "antiphon:{home/hub/s2}:meta", "x"),
    "a foreign list": command("RPUSH", "antiphon:{home/hub/s2}:log", "x"),
}


@pytest.mark.parametrize("spoil", ON_KEYS.values(), ids=ON_KEYS)
async def test_one_session_that_redis_refuses_leaves_the_others_logged(
    redis_server: RedisServer, spoil: Act
) -> None:
    """Neither its claim nor its writes hold up anybody; a pause would last longer than this test."""
    log = WriteBehindLog(RedisContextStore(redis_server.url), call_timeout_s=5.0, pause_s=3600)
    log.start()
    other, third = KEY._replace(session="s2"), KEY._replace(session="s3")
    await begin(log)
    await log.claim(other, 1, DIGEST)
    await spoil(redis_server)
    log.append(other, 1, rows(0))
    assert log.append(KEY, 1, rows(BEFORE))
    assert await log.claim(other, 2, DIGEST) is None
    assert await log.claim(third, 1, DIGEST) is not None
    assert log.append(KEY, 1, rows(BEFORE + 1))
    await eventually(lambda: log.backlog_bytes == 0)
    assert [log.is_logged(key) for key in (KEY, third)] == [True, True]
    assert (await stored(redis_server, 2)).frontier == BEFORE + 2
    await log.aclose()


async def test_every_lost_answer_is_asked_for_again_and_nothing_is_written_twice(
    redis_server: RedisServer,
) -> None:
    """The line is cut between each write and its answer: claims, appends, truncations and closes alike."""
    async with ReplyEater(redis_server.host, redis_server.port, lambda script: script % 2 == 1) as proxy:
        store = RedisContextStore(proxy.url, timeout_s=5.0)
        await store.claim(KEY, 1, DIGEST)
        for position in range(0, 40, 2):
            assert await store.append(KEY, 1, rows(position, 2)) == position + 2
        assert await store.append(KEY, 1, rows(31, 3)) == 34
        found = await store.claim(KEY, 2, DIGEST)
        assert found.records == (*(rows(position, 2) for position in range(0, 30, 2)), rows(30), rows(31, 3))
        await store.close(KEY, 2)
        await store.aclose()
    # Every call was made twice, and each of the three scripts was asked for before Redis knew it.
    assert proxy.scripts_seen == 2 * (1 + 20 + 1 + 1 + 1 + 3)
    assert (await stored(redis_server, 2)).records == ()


async def test_lost_answers_behind_the_replies_leave_every_row_once(redis_server: RedisServer) -> None:
    async with ReplyEater(redis_server.host, redis_server.port, lambda script: script % 3 == 0) as proxy:
        log = WriteBehindLog(RedisContextStore(proxy.url, timeout_s=5.0), call_timeout_s=5.0)
        log.start()
        await log.claim(KEY, 1, DIGEST)
        for position in range(60):
            assert log.append(KEY, 1, rows(position))
        await log.aclose(timeout_s=20)
    found = await stored(redis_server, 2)
    assert found.records == tuple(map(rows, range(60)))
    assert log.unlogged_sessions == 0


async def test_every_key_names_its_tenant_and_expires(redis_server: RedisServer) -> None:
    """Whatever was done to it: nothing stays for ever, and nothing is anybody's."""
    store = RedisContextStore(redis_server.url, ttl_s=30)
    addresses = [SessionAddress(tenant, "hub", f"s{n}") for tenant in ("home", "away") for n in range(4)]
    for number, address in enumerate(addresses):
        await store.append(address, 1, rows(0))  # without a claim
        await store.claim(address, 2, DIGEST)
        await store.append(address, 2, rows(0, 4))
        await store.append(address, 2, rows(2, 1))
        if number % 2:
            await store.close(address, 2)
    await store.aclose()
    async with aioredis.Redis.from_url(redis_server.url) as client:
        keys = [key.decode() async for key in client.scan_iter("*")]
        lives_ms = [await client.pttl(key) for key in keys]
    tenants = [re.match(r"antiphon:\{(home|away)/hub/s\d\}:(meta|log)\Z", key) for key in keys]
    assert None not in tenants
    assert len(keys) == len(addresses) + len(addresses) // 2
    assert all(0 < life_ms <= 30_000 for life_ms in lives_ms)


@pytest.fixture
def cluster_node(tmp_path: Path) -> Iterator[ClusterNode]:
    need_binary("redis-server", "redis-server")
    with ClusterNode(tmp_path / "cluster") as server:
        yield server


async def test_every_script_runs_in_cluster_mode(cluster_node: ClusterNode) -> None:
    """A cluster refuses a script whose keys lie in two slots, or that touches keys it did not name."""
    store = RedisContextStore(cluster_node.url)
    with pytest.raises(StoreError, match="slot"):
        await store.claim(KEY, 1, DIGEST)
    await serve_slots([cluster_node])
    for number in range(50):
        address = SessionAddress("home", "hub", f"s{number}")
        assert (await store.claim(address, 1, DIGEST)).frontier == 0
        assert await store.append(address, 1, rows(0, 3)) == 3
        assert await store.append(address, 1, rows(1, 1)) == 2
        check_true_prefix(await store.claim(address, 2, DIGEST))
        await store.close(address, 2)
    await store.aclose()


def documented_user() -> list[str]:
    """The words of the ACL line in the guide."""
    [line] = re.findall(r"^user (antiphon .*)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    return str(line).split()


@pytest.fixture
async def restricted_url(redis_server: RedisServer) -> str:
    """A URL of the user that the guide makes for the tenant `home`."""
    words = documented_user()
    await command("ACL", "SETUSER", *words)(redis_server)
    [password] = [word[1:] for word in words if word.startswith(">")]
    return f"redis://antiphon:{password}@{redis_server.host}:{redis_server.port}/0"


async def test_the_documented_user_can_do_all_that_a_worker_does(restricted_url: str) -> None:
    store = RedisContextStore(restricted_url)
    await store.ping()
    await store.claim(KEY, 1, DIGEST)
    await store.append(KEY, 1, rows(0, 4))
    await store.append(KEY, 1, rows(4, 4))
    assert await store.append(KEY, 1, rows(2, 1)) == 3
    check_true_prefix(await store.claim(KEY, 2, "another bundle"))
    await store.append(KEY, 2, rows(0, 2))
    await store.close(KEY, 2)
    await store.close(KEY._replace(session="unknown"), 1)
    await store.aclose()


@pytest.mark.parametrize(
    "words",
    [
        ("GET", "other"),
        ("SET", "antiphon:{home/hub/s1}:meta", "x"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("SCRIPT", "FLUSH"),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("EVAL", "return redis.call('HSET', 'other', 'a', 1)", "0"),
        ("SUBSCRIBE", "x"),
        ("SHUTDOWN",),
        ("CLIENT", "KILL", "ID", "1"),
    ],
    ids=" ".join,
)
async def test_the_documented_user_can_do_nothing_else(restricted_url: str, words: tuple[str, ...]) -> None:
    async with aioredis.Redis.from_url(restricted_url) as client:
        with pytest.raises(aioredis.ResponseError, match=r"(?i)permission"):
            await client.execute_command(*words)


async def test_the_documented_user_reaches_no_other_tenant(restricted_url: str) -> None:
    """I4, enforced by Redis itself."""
    store = RedisContextStore(restricted_url)
    for tenant in ("away", "home2", "hom"):
        with pytest.raises(StoreError, match=r"docs/redis\.md"):
            await store.claim(KEY._replace(tenant=tenant), 1, DIGEST)
    await store.aclose()
