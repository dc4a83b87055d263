"""The memory store's own promises: time to live and bounds."""

from __future__ import annotations

import pytest

from shared.context.memory import MemoryContextStore
from shared.context.store import LogRecord
from shared.errors import CodecError, StaleEpochError
from shared.wire.topics import SessionAddress


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def key(name: str) -> SessionAddress:
    return SessionAddress("home", "hub", name)


def rows(from_position: int, count: int) -> LogRecord:
    return LogRecord(from_position, count, "fp16", bytes(10 * count))


async def test_an_untouched_session_expires_with_its_fence() -> None:
    clock = Clock()
    store = MemoryContextStore(ttl_s=10, clock=clock)
    await store.append(key("a"), 5, rows(0, 1))
    clock.now_s += 9.9
    with pytest.raises(StaleEpochError):
        await store.claim(key("a"), 4, "d")
    clock.now_s += 0.2
    assert (await store.claim(key("a"), 1, "d")).frontier == 0
    assert store.nbytes == 0


async def test_every_success_renews_the_time_to_live() -> None:
    clock = Clock()
    store = MemoryContextStore(ttl_s=10, clock=clock)
    await store.claim(key("a"), 1, "d")
    for position in range(5):
        clock.now_s += 8
        assert await store.append(key("a"), 1, rows(position, 1)) == position + 1


async def test_a_duplicate_renews_the_time_to_live() -> None:
    clock = Clock()
    store = MemoryContextStore(ttl_s=10, clock=clock)
    for _ in range(5):
        await store.append(key("a"), 1, rows(0, 1))
        clock.now_s += 8
    assert len(store) == 1


async def test_the_longest_untouched_session_goes_when_there_are_too_many() -> None:
    store = MemoryContextStore(max_sessions=2)
    for name in ("a", "b"):
        await store.claim(key(name), 1, "d")
        await store.append(key(name), 1, rows(0, 1))
    await store.claim(key("a"), 1, "d")
    await store.claim(key("c"), 1, "d")
    assert len(store) == 2
    assert (await store.claim(key("a"), 1, "d")).frontier == 1
    assert (await store.claim(key("b"), 1, "d")).frontier == 0


async def test_the_longest_untouched_sessions_go_when_the_rows_are_too_many() -> None:
    store = MemoryContextStore(max_bytes=100)
    for name in ("a", "b", "c"):
        await store.claim(key(name), 1, "d")
        await store.append(key(name), 1, rows(0, 4))
    assert store.nbytes == 80
    assert (await store.claim(key("a"), 1, "d")).frontier == 0
    assert (await store.claim(key("c"), 1, "d")).frontier == 4


@pytest.mark.parametrize(
    ("from_position", "count", "states"),
    [(-1, 1, b"x"), (0, 0, b"x"), (0, -1, b"x"), (0, 1, b""), (0, 2, b"xyz"), (2**31, 1, b"x")],
)
def test_a_record_that_does_not_fit_its_bytes_is_refused(
    from_position: int, count: int, states: bytes
) -> None:
    with pytest.raises(CodecError):
        LogRecord(from_position, count, "fp16", states)
