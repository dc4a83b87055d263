"""The engine's thread: calls in order, failures where they are waited for, and an end that does not hang."""

from __future__ import annotations

import asyncio
import threading

import pytest

from shared.engine_thread import EngineThread
from tests.waiting import eventually


@pytest.fixture
def thread():
    thread = EngineThread("test-engine")
    yield thread
    thread.close()


async def test_calls_run_in_order_on_one_thread_that_is_not_the_loop_s(thread: EngineThread):
    ran: list[tuple[int, str]] = []

    def note(number: int) -> int:
        ran.append((number, threading.current_thread().name))
        return number

    assert await asyncio.gather(*(thread.run(note, number) for number in range(50))) == list(range(50))
    assert ran == [(number, "test-engine") for number in range(50)]


async def test_a_failure_is_raised_where_it_is_waited_for_and_the_thread_goes_on(thread: EngineThread):
    def fail() -> None:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        await thread.run(fail)
    assert await thread.run(len, "abc") == 3


async def test_an_exception_that_no_future_takes_is_raised_as_another(thread: EngineThread):
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(thread.run(next, iter(())), 5)


async def test_a_call_that_is_cancelled_while_it_waits_is_not_run(thread: EngineThread):
    begun, go_on, ran = threading.Event(), threading.Event(), []

    def hold() -> None:
        begun.set()
        go_on.wait(10.0)

    held = thread.run(hold)
    waiting = asyncio.ensure_future(thread.run(ran.append, 1))
    waiting.cancel()
    go_on.set()
    await held
    await thread.run(len, "")
    assert ran == []


async def test_closing_lets_the_running_call_finish_and_runs_none_of_those_behind_it():
    thread = EngineThread("test-engine")
    begun, go_on, ran = threading.Event(), threading.Event(), []

    def hold() -> str:
        begun.set()
        go_on.wait(10.0)
        return "finished"

    held, behind = thread.run(hold), thread.run(ran.append, 1)
    await asyncio.to_thread(begun.wait, 10.0)
    closing = asyncio.ensure_future(asyncio.to_thread(thread.close))
    await eventually(lambda: thread._closed)
    go_on.set()
    await closing

    assert await held == "finished"
    with pytest.raises(asyncio.CancelledError):
        await behind
    assert ran == []


async def test_nothing_is_run_on_a_thread_that_was_closed():
    thread = EngineThread("test-engine")
    thread.close()
    with pytest.raises(RuntimeError, match="closed"):
        thread.run(len, "")


def test_a_loop_that_is_gone_does_not_end_the_thread(thread: EngineThread):
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go_on.wait(10.0)

    async def leave() -> None:
        thread.run(hold)

    asyncio.run(leave())
    go_on.set()

    async def come_back() -> int:
        return await thread.run(len, "abc")

    assert asyncio.run(come_back()) == 3
