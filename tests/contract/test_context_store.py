"""What every context store promises, asked of each adapter with a real server behind it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from shared.context.memory import MemoryContextStore
from shared.context.redis import RedisContextStore
from shared.context.store import ContextStore, LogRecord
from shared.errors import ContextGapError, ContextTooLongError, StaleEpochError
from shared.wire.topics import SessionAddress

ROW_BYTES = 8
DIGEST = "d1"
MAX_SESSION_BYTES = 4096


def record(from_position: int, count: int, fill: int = 1, codec: str = "fp16") -> LogRecord:
    rows = (
        bytes([fill, position % 256]) * (ROW_BYTES // 2)
        for position in range(from_position, from_position + count)
    )
    return LogRecord(from_position, count, codec, b"".join(rows))


@pytest.fixture
def key() -> SessionAddress:
    return SessionAddress("home", "hub", uuid.uuid4().hex)


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[ContextStore]:
    if request.param == "memory":
        adapter: ContextStore = MemoryContextStore(max_session_bytes=MAX_SESSION_BYTES)
    else:
        server = request.getfixturevalue("redis_server")
        adapter = RedisContextStore(server.url, max_session_bytes=MAX_SESSION_BYTES, timeout_s=5.0)
    yield adapter
    await adapter.aclose()


async def test_a_new_session_is_empty(store: ContextStore, key: SessionAddress) -> None:
    log = await store.claim(key, 1, DIGEST)
    assert (log.epoch, log.frontier, log.records) == (1, 0, ())


async def test_a_claim_returns_the_rows_that_were_appended(store: ContextStore, key: SessionAddress) -> None:
    await store.claim(key, 1, DIGEST)
    written = (record(0, 5), record(5, 1, codec="int8"), record(6, 3))
    assert [await store.append(key, 1, each) for each in written] == [5, 6, 9]
    log = await store.claim(key, 2, DIGEST)
    assert (log.epoch, log.frontier, log.records) == (2, 9, written)


async def test_claiming_twice_in_one_epoch_changes_nothing(store: ContextStore, key: SessionAddress) -> None:
    await store.claim(key, 1, DIGEST)
    await store.append(key, 1, record(0, 2))
    assert await store.claim(key, 1, DIGEST) == await store.claim(key, 1, DIGEST)


async def test_a_write_inside_a_record_cuts_it_there(store: ContextStore, key: SessionAddress) -> None:
    """Writing at from_position < frontier truncates first."""
    await store.claim(key, 1, DIGEST)
    await store.append(key, 1, record(0, 4))
    await store.append(key, 1, record(4, 4))
    await store.append(key, 1, record(8, 1))
    assert await store.append(key, 1, record(6, 1, fill=9)) == 7
    log = await store.claim(key, 1, DIGEST)
    assert log.records == (record(0, 4), record(4, 2), record(6, 1, fill=9))


async def test_a_write_at_the_start_replaces_everything(store: ContextStore, key: SessionAddress) -> None:
    await store.claim(key, 1, DIGEST)
    for position in range(4):
        await store.append(key, 1, record(position, 1))
    assert await store.append(key, 1, record(0, 2, fill=7)) == 2
    assert (await store.claim(key, 1, DIGEST)).records == (record(0, 2, fill=7),)


@pytest.mark.parametrize("late", [0, 1, 2])
async def test_a_record_that_is_already_there_changes_nothing(
    store: ContextStore, key: SessionAddress, late: int
) -> None:
    """Retried and late writes leave what one write leaves."""
    await store.claim(key, 1, DIGEST)
    written = (record(0, 3), record(3, 3), record(6, 1))
    for each in written:
        await store.append(key, 1, each)
    assert await store.append(key, 1, written[late]) == 7
    assert (await store.claim(key, 1, DIGEST)).records == written


async def test_equal_writes_at_the_same_time_are_one(store: ContextStore, key: SessionAddress) -> None:
    await store.claim(key, 1, DIGEST)
    frontiers = await asyncio.gather(*(store.append(key, 1, record(0, 3)) for _ in range(6)))
    assert frontiers == [3] * 6
    assert (await store.claim(key, 1, DIGEST)).records == (record(0, 3),)


async def test_a_write_past_the_end_is_refused_with_the_frontier(
    store: ContextStore, key: SessionAddress
) -> None:
    await store.claim(key, 1, DIGEST)
    await store.append(key, 1, record(0, 3))
    with pytest.raises(ContextGapError) as refusal:
        await store.append(key, 1, record(4, 1))
    assert refusal.value.frontier == 3
    assert (await store.claim(key, 1, DIGEST)).records == (record(0, 3),)


async def test_a_gap_in_a_session_that_is_not_stored_names_position_0(
    store: ContextStore, key: SessionAddress
) -> None:
    with pytest.raises(ContextGapError) as refusal:
        await store.append(key, 3, record(12, 1))
    assert refusal.value.frontier == 0


async def test_an_older_epoch_can_neither_claim_nor_write(store: ContextStore, key: SessionAddress) -> None:
    """I7: no stale epoch's write is accepted."""
    await store.claim(key, 2, DIGEST)
    await store.append(key, 2, record(0, 2))
    with pytest.raises(StaleEpochError):
        await store.claim(key, 1, DIGEST)
    with pytest.raises(StaleEpochError):
        await store.append(key, 1, record(2, 1))
    assert (await store.claim(key, 2, DIGEST)).records == (record(0, 2),)


async def test_a_newer_epoch_writes_on_after_the_older_ones_rows(
    store: ContextStore, key: SessionAddress
) -> None:
    await store.claim(key, 1, DIGEST)
    await store.append(key, 1, record(0, 2))
    assert (await store.claim(key, 5, DIGEST)).frontier == 2
    assert await store.append(key, 5, record(2, 1)) == 3
    with pytest.raises(StaleEpochError):
        await store.append(key, 4, record(3, 1))


async def test_a_write_in_a_newer_epoch_fences_like_a_claim(store: ContextStore, key: SessionAddress) -> None:
    await store.claim(key, 1, DIGEST)
    await store.append(key, 7, record(0, 1))
    with pytest.raises(StaleEpochError):
        await store.append(key, 1, record(1, 1))


async def test_another_bundle_starts_the_log_anew(store: ContextStore, key: SessionAddress) -> None:
    """Rows of other weights would be wrong without any error."""
    await store.claim(key, 1, DIGEST)
    await store.append(key, 1, record(0, 4))
    assert await store.claim(key, 2, "d2") == await store.claim(key, 2, "d2")
    assert (await store.claim(key, 2, "d2")).frontier == 0


async def test_rows_written_without_a_claim_belong_to_no_bundle(
    store: ContextStore, key: SessionAddress
) -> None:
    await store.append(key, 1, record(0, 4))
    assert (await store.claim(key, 1, DIGEST)).frontier == 0


async def test_a_closed_session_has_no_rows_and_keeps_its_fence(
    store: ContextStore, key: SessionAddress
) -> None:
    await store.claim(key, 3, DIGEST)
    await store.append(key, 3, record(0, 4))
    await store.close(key, 3)
    with pytest.raises(StaleEpochError):
        await store.append(key, 2, record(0, 1))
    assert (await store.claim(key, 3, DIGEST)).records == ()


async def test_a_zombie_cannot_close_a_session_that_another_took(
    store: ContextStore, key: SessionAddress
) -> None:
    await store.claim(key, 2, DIGEST)
    await store.append(key, 2, record(0, 4))
    await store.close(key, 1)
    assert (await store.claim(key, 2, DIGEST)).frontier == 4


async def test_closing_an_unknown_session_is_no_error(store: ContextStore, key: SessionAddress) -> None:
    await store.close(key, 1)
    assert (await store.claim(key, 1, DIGEST)).frontier == 0


async def test_a_session_past_its_limit_is_refused_and_keeps_its_rows(
    store: ContextStore, key: SessionAddress
) -> None:
    """I6: bounded memory."""
    await store.claim(key, 1, DIGEST)
    fits = record(0, 400)
    await store.append(key, 1, fits)
    with pytest.raises(ContextTooLongError, match="max_session_bytes"):
        await store.append(key, 1, record(400, 200))
    with pytest.raises(ContextTooLongError, match="max_session_bytes"):
        await store.append(key, 1, record(200, 400))
    assert (await store.claim(key, 1, DIGEST)).records == (fits,)
    assert await store.append(key, 1, record(0, 450)) == 450


async def test_the_limit_counts_what_truncation_frees(store: ContextStore, key: SessionAddress) -> None:
    await store.claim(key, 1, DIGEST)
    for fill in range(12):
        await store.append(key, 1, record(0, 200, fill=fill))
        await store.append(key, 1, record(200, 200, fill=fill))
        await store.append(key, 1, record(100, 250, fill=fill))
    assert (await store.claim(key, 1, DIGEST)).records == (record(0, 100, fill=11), record(100, 250, fill=11))


@pytest.mark.parametrize(
    "other",
    [
        SessionAddress("away", "hub", "s"),
        SessionAddress("home", "hub/s", ""),
        SessionAddress("home/hub", "s", ""),
        SessionAddress("home", "hub", "s}:log"),
        SessionAddress("home", "hub", "s%2F"),
    ],
)
async def test_nothing_crosses_sessions_or_tenants(store: ContextStore, other: SessionAddress) -> None:
    """I4, whatever is in an id."""
    mine = SessionAddress("home", "hub", "s")
    await store.claim(mine, 1, DIGEST)
    await store.append(mine, 1, record(0, 2))
    assert (await store.claim(other, 9, DIGEST)).frontier == 0
    await store.close(other, 9)
    assert await store.append(mine, 1, record(2, 1)) == 3
