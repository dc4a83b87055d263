"""Sessions' logs in a Redis Cluster of several nodes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from shared.context.redis import RedisContextStore, _keys
from shared.context.store import LogRecord
from shared.context.write_behind import WriteBehindLog
from shared.errors import ConfigError, StaleEpochError, StoreError, StoreRefusedError
from shared.wire.topics import SessionAddress
from tests.conftest import need_binary
from tests.redis_cluster import SLOTS, ClusterNode, redis_cluster
from tests.servers import REPOSITORY
from tests.waiting import eventually

GUIDE = REPOSITORY / "docs" / "redis.md"
SESSIONS = [SessionAddress("home", "hub", f"s{number}") for number in range(60)]


def rows(from_position: int, count: int) -> LogRecord:
    return LogRecord(from_position, count, "fp16", bytes(range(count * 4)))


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[list[ClusterNode]]:
    need_binary("redis-server", "redis-server")
    async with redis_cluster(tmp_path, 3) as nodes:
        yield nodes


def node_of(key: SessionAddress, nodes: list[ClusterNode]) -> ClusterNode:
    share = -(-SLOTS // len(nodes))
    return nodes[key_slot(_keys(key)[0].encode()) // share]


def cluster_url(node: ClusterNode) -> str:
    return node.url.replace("redis://", "redis+cluster://")


async def test_every_operation_finds_the_node_that_has_the_session(cluster: list[ClusterNode]) -> None:
    store, other = (RedisContextStore(cluster_url(node), timeout_s=5.0) for node in cluster[:2])
    await store.ping()
    assert {node_of(key, cluster) for key in SESSIONS} == set(cluster)
    await asyncio.gather(*(store.claim(key, 1, "d") for key in SESSIONS))
    for key in SESSIONS:
        assert await store.append(key, 1, rows(0, 3)) == 3
        assert await store.append(key, 1, rows(1, 1)) == 2
        assert (await other.claim(key, 2, "d")).frontier == 2
        with pytest.raises(StaleEpochError):
            await store.append(key, 1, rows(2, 1))
        await other.close(key, 2)
    await store.aclose()
    await other.aclose()


async def test_a_node_that_dies_takes_its_own_sessions_logs_and_no_others(cluster: list[ClusterNode]) -> None:
    dead = cluster[2]
    log = WriteBehindLog(RedisContextStore(cluster_url(cluster[0])), call_timeout_s=2.0, pause_s=0.05)
    log.start()
    here = [key for key in SESSIONS if node_of(key, cluster) is not dead]
    lost = next(key for key in SESSIONS if node_of(key, cluster) is dead)
    for key in (*here, lost):
        assert await log.claim(key, 1, "d") is not None
    dead.kill()
    for key in (lost, *here):
        log.append(key, 1, rows(0, 1))
    await eventually(lambda: not log.is_logged(lost), timeout_s=20)
    for key in here:
        assert log.append(key, 1, rows(1, 1))
    await eventually(lambda: log.backlog_bytes == 0, timeout_s=20)
    assert all(log.is_logged(key) for key in here)
    store = RedisContextStore(cluster_url(cluster[1]), timeout_s=5.0)
    assert {(await store.claim(key, 2, "d")).frontier for key in here} == {2}
    await store.aclose()
    await log.aclose()


async def test_sessions_that_another_node_has_are_refused_alone_where_the_url_names_no_cluster(
    cluster: list[ClusterNode],
) -> None:
    """A wrong URL; a pause would last longer than this test."""
    log = WriteBehindLog(RedisContextStore(cluster[0].url), call_timeout_s=5.0, pause_s=3600)
    log.start()
    for key in SESSIONS:
        found = await log.claim(key, 1, "d")
        assert (found is not None) == (node_of(key, cluster) is cluster[0]) == log.append(key, 1, rows(0, 1))
    await eventually(lambda: log.backlog_bytes == 0)
    await log.aclose()
    store = RedisContextStore(cluster[0].url)
    with pytest.raises(StoreRefusedError, match=r"redis\+cluster://"):
        await store.claim(next(key for key in SESSIONS if node_of(key, cluster) is cluster[1]), 1, "d")
    await store.aclose()


async def test_the_documented_user_can_do_all_that_a_worker_does(cluster: list[ClusterNode]) -> None:
    """With the rights that the guide adds for a cluster."""
    guide = GUIDE.read_text(encoding="utf-8")
    [line] = re.findall(r"^user (antiphon .*)$", guide, re.MULTILINE)
    [added] = re.findall(r"In a cluster add `([^`]*)`", guide)
    for node in cluster:
        await node.send("ACL", "SETUSER", *line.split(), *added.split())
    [password] = re.findall(r" >(\S+)", line)
    url = cluster_url(cluster[0]).replace("//", f"//antiphon:{password}@")
    store = RedisContextStore(url, timeout_s=5.0)
    await store.ping()
    for key in SESSIONS:
        await store.claim(key, 1, "d")
        await store.append(key, 1, rows(0, 3))
        await store.close(key, 1)
    with pytest.raises(StoreError, match=r"docs/redis\.md"):
        await store.claim(SESSIONS[0]._replace(tenant="away"), 1, "d")
    await store.aclose()


async def test_a_cluster_that_is_away_is_a_store_error_that_names_the_fix(tmp_path: Path) -> None:
    store = RedisContextStore("redis+cluster://127.0.0.1:1/0", timeout_s=0.2)
    with pytest.raises(StoreError, match="check that") as refusal:
        await store.claim(SESSIONS[0], 1, "d")
    assert not isinstance(refusal.value, StoreRefusedError)
    await store.aclose()


def test_a_cluster_has_one_database() -> None:
    with pytest.raises(ConfigError, match="database"):
        RedisContextStore("redis+cluster://h:6379/2")
