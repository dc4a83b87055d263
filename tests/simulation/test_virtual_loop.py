"""The simulated loop itself: time, processes, and programs that do not end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from tests.simulation import virtual_loop
from tests.simulation.virtual_loop import Process, SimulationError, VirtualLoop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop(start_s=0.0)
    yield loop
    loop.close()


def run(loop: VirtualLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
    return loop.run_until_complete(coroutine)


def test_a_day_passes_at_once_and_in_order(loop: VirtualLoop):
    seen: list[float] = []

    async def day() -> None:
        for delay_s in (3_600.0, 60.0, 86_400.0):
            loop.call_later(delay_s, lambda: seen.append(loop.time()))
        await asyncio.sleep(100_000.0)

    run(loop, day())
    assert seen == [60.0, 3_600.0, 86_400.0]
    assert loop.time() == 100_000.0


def test_a_deadlock_is_found_where_a_real_loop_would_wait_for_ever(loop: VirtualLoop):
    task = loop.create_task(asyncio.Event().wait())
    with pytest.raises(SimulationError, match="deadlock"):
        loop.run_until_complete(task)
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_program_that_spins_is_found(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(virtual_loop, "MAX_CALLBACKS", 100)

    async def spin() -> None:
        while True:  # noqa: ASYNC110  no event: that is the bug to be found
            await asyncio.sleep(0)

    task = loop.create_task(spin())
    with pytest.raises(SimulationError, match="livelock"):
        loop.run_until_complete(task)
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_frozen_process_does_late_and_at_once_what_was_due(loop: VirtualLoop):
    process, beats = Process("worker"), []

    async def beat() -> None:
        for _ in range(4):
            await asyncio.sleep(1.0)
            beats.append(loop.time())

    async def story() -> None:
        task = loop.spawn(process, beat())
        await asyncio.sleep(1.5)
        loop.freeze(process)
        await asyncio.sleep(8.5)
        assert beats == [1.0]
        loop.thaw(process)
        await task

    run(loop, story())
    assert beats == [1.0, 10.0, 11.0, 12.0]


def test_what_a_task_starts_belongs_to_its_process(loop: VirtualLoop):
    process, seen = Process("worker"), []

    async def child() -> None:
        await asyncio.sleep(1.0)
        seen.append("child")

    async def parent() -> None:
        asyncio.get_running_loop().call_later(1.0, seen.append, "timer")
        await asyncio.get_running_loop().run_in_executor(None, seen.append, "engine")
        await asyncio.create_task(child())

    async def story() -> None:
        loop.spawn(process, parent())
        await asyncio.sleep(0.5)
        loop.freeze(process)
        await asyncio.sleep(60.0)
        assert seen == ["engine"]
        loop.thaw(process)
        await asyncio.gather(*process.tasks)

    run(loop, story())
    assert seen == ["engine", "timer", "child"]


def test_a_function_given_to_an_executor_takes_its_time_and_hands_on_its_error():
    loop = VirtualLoop(start_s=0.0, executor_delay=lambda: 0.25)

    async def work() -> None:
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 // 0)

    run(loop, work())
    assert loop.time() == 0.25
    loop.close()
