"""Steps and replies that are ready together travel together, between a real edge and a real worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from broker.group_reader import parts_of
from broker.transport import Incoming
from cloud_worker.outbox import Outbox
from ops.bench.transport import empty_worker
from ops.bench.transport.empty_worker import TENANT, model_named
from ops.bench.transport.own_echo import own_transport
from ops.bench.transport.question import size_of
from ops.bench.transport.steps import Steps
from shared.errors import LinkError
from shared.wire import topics
from shared.wire.codec import decode_to_edge, decode_to_worker
from shared.wire.messages import Resume, Step
from shared.wire.topics import EdgeAddress, SessionAddress
from tests.servers import HOST, ServerProcess
from tests.waiting import eventually

WAIT_S = 20.0
EDGE = EdgeAddress(TENANT, f"edge-{model_named(grouped=True)}")


@pytest.fixture
async def worker(broker_endpoint: ServerProcess) -> AsyncIterator[None]:
    """A worker whose engine draws without looking."""
    ready = asyncio.Event()
    serving = asyncio.create_task(
        empty_worker.serve(HOST, broker_endpoint.port, ready.set, grouped=True),
    )
    await asyncio.wait_for(ready.wait(), WAIT_S)
    yield
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.usefixtures("worker")
async def test_sessions_that_ask_in_one_turn_share_a_message_and_each_gets_its_own_tokens(
    broker_endpoint: ServerProcess,
):
    heard: list[Incoming] = []
    groups = topics.step_group_filter(TENANT, "+")
    async with (
        own_transport(HOST, broker_endpoint.port) as watcher,
        Steps.connected(HOST, broker_endpoint.port) as steps,
    ):
        watcher.subscribe(groups, heard.append)
        await watcher.wait_connected(WAIT_S)
        await watcher.subscribed(groups, WAIT_S)
        async with steps._askers(size_of(64), 3) as askers:  # all have their worker
            heard.clear()
            await asyncio.gather(*(asker.trip() for asker in askers))  # checks every token
            await eventually(lambda: heard)
    parts = parts_of(heard[0])
    assert len(parts) == 3
    assert len({topics.parse_steps(part.topic) for part in parts}) == 3
    assert all(topics.parse_steps(part.topic).owner == EDGE for part in parts)
    assert all(isinstance(decode_to_worker(part.payload), Step) for part in parts)


async def test_a_worker_s_words_to_sessions_of_one_edge_share_a_message_and_other_edges_get_their_own(
    broker_endpoint: ServerProcess, unique
):
    heard: list[Incoming] = []
    edges = [EdgeAddress("home", unique("edge")) for _ in range(2)]
    async with own_transport(HOST, broker_endpoint.port) as link:
        for edge in edges:
            for topic in (topics.reply_group_topic(edge), topics.reply_filter(*edge)):
                link.subscribe(topic, heard.append)
                await link.wait_connected(WAIT_S)
                await link.subscribed(topic, WAIT_S)
        outbox = Outbox(link)
        for edge, session in ((edges[0], "a"), (edges[0], "b"), (edges[1], "c")):
            outbox.reply(SessionAddress(*edge, session), Resume(1, 1, 5))
        outbox.flush()
        await eventually(lambda: len(heard) == 2)
    together, alone = sorted(heard, key=lambda each: each.topic != topics.reply_group_topic(edges[0]))
    assert [topics.parse_reply(part.topic).session for part in parts_of(together)] == ["a", "b"]
    assert topics.parse_reply(alone.topic) == SessionAddress(*edges[1], "c")
    assert decode_to_edge(alone.payload) == Resume(1, 1, 5)


@pytest.mark.usefixtures("worker")
async def test_the_bench_fails_over_a_token_that_is_not_the_expected_one(
    broker_endpoint: ServerProcess, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ops.bench.transport.steps.token_after", lambda position: position + 1)
    async with Steps.connected(HOST, broker_endpoint.port) as steps:
        with pytest.raises(LinkError, match="the token after 0 is 1"):
            await steps.trips(size_of(64), 1)
