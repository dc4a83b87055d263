"""What one worker takes on, what one edge may ask of it, and how it leaves; over a real broker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import torch

import cloud_worker.service as service
from broker.connect import transport_for
from cloud_worker.engine import CloudEngine
from cloud_worker.service import _check_budget, worker_service
from cloud_worker.worker import CloudWorker
from ops.readiness import Readiness
from ops.roles import EXIT_BROKEN, serve_worker
from shared.config import load
from shared.errors import ConfigError
from shared.tensors.codec import CODECS
from shared.wire.messages import Busy, Close, Opened, Refused, Resume, Step, ToEdge, Tokens
from tests.integration.conftest import Reference
from tests.raw_edge import HIDDEN, WAIT_S, RawEdge, step
from tests.servers import RedisServer, ServerProcess
from tests.waiting import eventually


class Pool:
    """Workers in this process, and edges at their broker."""

    def __init__(self, tiny: Reference, server: ServerProcess, stack: AsyncExitStack, given: dict) -> None:
        self.tiny = tiny
        self.given = {
            "broker.port": server.port,
            "general.bundle": str(tiny.bundle.path),
            **{key.replace("__", "."): value for key, value in given.items()},
        }
        self.settings = load(self.given, environ={})
        self.stack = stack
        self.workers: list[CloudWorker] = []

    async def start(self) -> None:
        self.transport = await self.stack.enter_async_context(
            transport_for(self.settings.broker, "raw-edges", None)
        )
        self.readiness = Readiness(self.transport, "home")

    async def join(self, name: str) -> AsyncExitStack:
        """Start a worker; leaving the stack drains it."""
        place = await self.stack.enter_async_context(AsyncExitStack())
        settings = load({**self.given, "worker.id": name}, environ={})
        self.workers.append(await place.enter_async_context(worker_service(settings)))
        await eventually(lambda: name in self.readiness.workers, WAIT_S, f"{name} is online")
        return place

    def edge(self, session: str, edge: str = "hub") -> RawEdge:
        return RawEdge(self.transport, self.tiny.bundle.digest, session, edge)


MakePool = Callable[..., Any]


@pytest.fixture
def make_pool(tiny: Reference, embedded_server: ServerProcess) -> MakePool:
    @asynccontextmanager
    async def made(*names: str, **given: Any) -> AsyncIterator[Pool]:
        async with AsyncExitStack() as stack:
            pool = Pool(tiny, embedded_server, stack, given)
            await pool.start()
            for name in names:
                await pool.join(name)
            yield pool

    return made


async def opened(edge: RawEdge, epoch: int = 1) -> Opened:
    reply = await edge.open(epoch)
    assert isinstance(reply, Opened), reply
    return reply


async def test_a_worker_that_leaves_answers_what_waits_and_hands_its_sessions_over_with_their_log(
    make_pool: MakePool, redis_server: RedisServer
):
    async with make_pool(worker__redis_url=redis_server.url) as pool:
        place = await pool.join("first")
        idle, asking = pool.edge("idle"), pool.edge("asking")
        for edge in (idle, asking):
            await opened(edge)
            await edge.ask(step(1, 1, 0, 20))
        await pool.join("second")
        for number in range(2, 12):
            await asking.send(step(1, number, 18 + number, 1))
        await place.aclose()
        moved = await idle.reply()
        answers: list[ToEdge] = [await asking.reply()]
        while not isinstance(answers[-1], Refused):
            answers.append(await asking.reply())
        for refused in (moved, answers[-1]):
            assert isinstance(refused, Refused)
            assert (refused.code, refused.retryable) == ("draining", True)
        taken = [answer for answer in answers[:-1] if isinstance(answer, Tokens)]
        assert (await opened(idle, 2)).frontier == 20
        assert (await opened(asking, 2)).frontier == 20 + len(taken)
        assert idle.worker == asking.worker == "second"
        assert isinstance(await asking.ask(step(2, 1, 20 + len(taken), 1)), Tokens)


async def test_an_open_that_still_reaches_a_worker_that_leaves_is_sent_elsewhere_at_once(make_pool: MakePool):
    async with make_pool("only") as pool:
        edge = pool.edge("late")
        pool.workers[0]._admission.draining = True
        assert await edge.open(1) == Busy(1, 0.0)


async def test_a_worker_that_joins_gets_its_share_of_new_sessions_at_once(make_pool: MakePool):
    async with make_pool("first") as pool:
        await pool.join("second")
        placed = [(await opened(pool.edge(f"s{number}"))).worker for number in range(4)]
        assert set(placed) == {"first", "second"}


async def test_an_edge_at_its_session_cap_is_told_the_setting_and_others_are_not_held_back(
    make_pool: MakePool,
):
    async with make_pool("only", worker__max_sessions_per_edge=2) as pool:
        for number in (1, 2):
            await opened(pool.edge(f"s{number}", "greedy"))
        refused = await pool.edge("s3", "greedy").open(1)
        assert isinstance(refused, Refused)
        assert (refused.code, refused.retryable) == ("quota", True)
        assert "worker.max_sessions_per_edge" in refused.message
        await opened(pool.edge("s1", "modest"))


async def test_an_edge_over_its_rate_is_told_the_setting_once_and_others_are_answered(make_pool: MakePool):
    async with make_pool("only", worker__steps_per_s_per_edge=1) as pool:
        greedy, modest = pool.edge("s1", "greedy"), pool.edge("s1", "modest")
        await opened(greedy)
        await opened(modest)
        for number in range(1, 20):
            await greedy.send(step(1, number, 0, 1))
        replies = [await greedy.reply(), await greedy.reply()]
        assert isinstance(await modest.ask(step(1, 1, 0, 1)), Tokens)
        refused = next(reply for reply in replies if isinstance(reply, Refused))
        assert (refused.code, refused.retryable) == ("quota", True)
        assert "worker.steps_per_s_per_edge" in refused.message
        busy = await greedy.open(2)
        assert isinstance(busy, Busy)
        assert 0.0 < busy.retry_after_s <= 1.0
        assert greedy.replies.empty()


async def test_an_edge_that_sends_too_many_bytes_is_told_the_setting(make_pool: MakePool):
    async with make_pool("only", worker__bytes_per_s_per_edge=1000) as pool:
        edge = pool.edge("s1")
        await opened(edge)
        for number in (1, 2):  # the largest message passes once, whatever the rate
            await edge.send(step(1, number, 0, 600, want=False))
        await edge.send(step(1, 3, 0, 600))
        refused = await edge.reply()
        assert isinstance(refused, Refused)
        assert "worker.bytes_per_s_per_edge" in refused.message


async def test_all_edges_together_are_over_their_tenants_rate_before_each_is_over_its_own(
    make_pool: MakePool,
):
    async with make_pool("only", worker__steps_per_s_per_tenant=1) as pool:
        first, second = pool.edge("s1", "first"), pool.edge("s1", "second")
        await opened(first)
        await opened(second)
        await second.send(step(1, 1, 0, 1))
        refused = await second.reply()
        assert isinstance(refused, Refused)
        assert (refused.code, refused.retryable) == ("quota", True)
        assert "worker.steps_per_s_per_tenant" in refused.message


async def test_a_worker_whose_memory_does_not_hold_its_longest_session_does_not_start(
    make_pool: MakePool,
):
    """Alone it would never be evicted, and stay over the budget."""
    async with make_pool(worker__kv_budget_mib=1) as pool:
        async with await pool.join("fits"):
            pass
        with pytest.raises(ConfigError, match=r"1024 positions .* worker\.kv_budget_mib is 1:"):
            _check_budget(OneByteMore(pool.workers[0]), pool.workers[0]._limits)


class OneByteMore:
    """A stage whose caches are a byte larger."""

    def __init__(self, worker: CloudWorker) -> None:
        self._stage = worker._runner._engine._model.stage

    def cache_bytes(self, tokens: int) -> int:
        return self._stage.cache_bytes(tokens) + 1


async def test_a_close_of_a_session_that_was_evicted_deletes_its_log(
    make_pool: MakePool, redis_server: RedisServer
):
    async with make_pool("only", worker__redis_url=redis_server.url) as pool:
        worker = pool.workers[0]
        edge, asking = pool.edge("evicted"), pool.edge("asking")
        for each in (edge, asking):
            await opened(each)
            await each.ask(step(1, 1, 0, 20))
        worker._keeper.forget(edge.address)
        await eventually(lambda: not worker._log.is_logged(edge.address), WAIT_S, "its rows are written")
        await edge.send(Close(1))
        assert isinstance(await asking.ask(step(1, 2, 20, 1)), Tokens)  # which comes behind the close
        assert (await opened(edge, 2)).frontier == 0
        assert (await opened(asking, 2)).frontier == 21


async def test_a_late_close_leaves_the_log_of_a_newer_opening(make_pool: MakePool, redis_server: RedisServer):
    async with make_pool("only", worker__redis_url=redis_server.url) as pool:
        worker, edge = pool.workers[0], pool.edge("s1")
        for epoch in (1, 2):
            await opened(edge, epoch)
            await edge.ask(step(epoch, 1, 0, 20))
        worker._keeper.forget(edge.address)
        await eventually(lambda: not worker._log.is_logged(edge.address), WAIT_S, "its rows are written")
        await edge.send(Close(1))
        assert (await opened(edge, 3)).frontier == 20


class Fragile(CloudEngine):
    """Breaks over rows that no real model breaks over: none that a peer can send is known."""

    def _forward(self, items, now_s):
        if any(rows.abs().max() > 1e5 for _, rows in items):
            raise ZeroDivisionError("a kernel of no use")
        return super()._forward(items, now_s)


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "CloudEngine", Fragile)


def poison(epoch: int, number: int, start: int) -> Step:
    return Step(epoch, number, start, 1, CODECS["fp32"].encode(torch.full((1, HIDDEN), 1e6)), [start])


@pytest.mark.usefixtures("fragile")
async def test_a_step_that_breaks_the_engine_is_asked_for_once_more_and_then_its_session_is_quarantined(
    make_pool: MakePool, redis_server: RedisServer
):
    async with make_pool("only", worker__redis_url=redis_server.url) as pool:
        bad, good = pool.edge("bad"), pool.edge("good")
        await opened(bad)
        await opened(good)
        await bad.ask(step(1, 1, 0, 5))
        await bad.send(poison(1, 2, 5))
        assert isinstance(await good.ask(step(1, 1, 0, 3)), Tokens)
        assert await bad.reply() == Resume(1, 2, 0, taken=2)
        await bad.send(step(1, 3, 0, 5, want=False))
        refused = await bad.ask(poison(1, 4, 5))
        assert isinstance(refused, Refused)
        assert (refused.code, refused.retryable) == ("poison", False)
        assert "ZeroDivisionError" in refused.message
        assert isinstance(await good.ask(step(1, 2, 3, 1)), Tokens)
        assert (await opened(bad, 2)).frontier == 0


@pytest.mark.usefixtures("fragile")
async def test_a_session_whose_second_try_works_goes_on_and_may_fail_again_later(make_pool: MakePool):
    async with make_pool("only") as pool:
        edge = pool.edge("s1")
        await opened(edge)
        for number in (1, 3, 5):
            assert await edge.ask(poison(1, number, 0)) == Resume(1, number, 0, taken=number)
            assert isinstance(await edge.ask(step(1, number + 1, 0, 3)), Tokens)


class Broken(CloudEngine):
    """Fails whatever it is given, as a lost accelerator does."""

    def _forward(self, items, now_s):
        raise ZeroDivisionError("nothing goes through")

    def _is_sound(self) -> bool:
        return False


async def test_an_engine_that_breaks_over_everything_blames_no_session_and_ends_its_process(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(service, "CloudEngine", Broken)
    async with make_pool() as pool:
        asking = asyncio.ensure_future(ask_when_online(pool))
        with pytest.raises(SystemExit) as ended:
            async with asyncio.timeout(WAIT_S):
                await serve_worker(pool.settings, asyncio.Event())
        refused = await asking
    assert ended.value.code == EXIT_BROKEN
    assert isinstance(refused, Refused)
    assert (refused.code, refused.retryable) == ("engine", True)


async def ask_when_online(pool: Pool) -> ToEdge:
    assert await pool.readiness.wait(edges=0, workers=1, timeout_s=WAIT_S)
    edge = pool.edge("s1")
    await opened(edge)
    return await edge.ask(step(1, 1, 0, 3))


class Stuck(CloudEngine):
    """Runs when it is let go."""

    gate = threading.Event()

    def run(self, batch, now_s):
        self.gate.wait(WAIT_S)
        return super().run(batch, now_s)


async def test_a_worker_whose_forward_does_not_end_tells_its_sessions_when_the_drains_time_is_over(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(service, "CloudEngine", Stuck)
    async with make_pool("only") as pool:
        edge = pool.edge("s1")
        await opened(edge)
        await edge.send(step(1, 1, 0, 3))
        worker = pool.workers[0]
        await eventually(lambda: worker._runner.at_work(edge.address), WAIT_S, "the step waits")
        assert not await worker.drain(timeout_s=0.05)
        refused = await edge.reply()
        assert isinstance(refused, Refused)
        assert refused.code == "draining"
        Stuck.gate.set()


async def test_no_cache_outlives_its_session(make_pool: MakePool):
    async with make_pool("only") as pool:
        worker = pool.workers[0]
        edges = [pool.edge(f"s{number}") for number in range(8)]
        for edge in edges:
            await opened(edge)
            await edge.send(step(1, 1, 0, 400))
            await edge.send(Close(1))  # as likely as not while its rows are in a forward
        await eventually(lambda: len(worker._table) == 0, WAIT_S, "all sessions are closed")
        last = pool.edge("last")
        await opened(last)
        await last.ask(step(1, 1, 0, 1))
        await eventually(lambda: not worker._runner._to_free, WAIT_S, "freed")
        assert set(worker._runner._engine.kv_bytes()) == {last.address}
