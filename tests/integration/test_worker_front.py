"""What a worker answers to good, late, repeated and hostile messages, over a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import torch

from broker.connect import transport_for
from cloud_worker.service import worker_service
from ops.readiness import Readiness
from shared.config import load
from shared.tensors.codec import CODECS
from shared.wire import topics
from shared.wire.codec import MAX_MESSAGE_BYTES, decode_to_edge, encode
from shared.wire.messages import Close, Open, Opened, Refused, Resume, Step, ToEdge, Tokens, ToWorker
from tests.integration.conftest import Reference
from tests.servers import RedisServer, ServerProcess

WAIT_S = 20.0


class RawEdge:
    """Speaks to workers message by message."""

    def __init__(self, transport, digest: str, session: str) -> None:
        self.transport = transport
        self.digest = digest
        self.address = topics.SessionAddress("home", "hub", session)
        self.replies: asyncio.Queue[ToEdge] = asyncio.Queue()
        self.worker = ""
        transport.subscribe(
            topics.reply_topic(self.address), lambda m: self.replies.put_nowait(decode_to_edge(m.payload))
        )

    async def open(self, epoch: int, digest: str | None = None) -> ToEdge:
        await self.transport.subscribed(topics.reply_topic(self.address), WAIT_S)
        message = Open(epoch, digest or self.digest, "fp32")
        topic = topics.open_topic(self.address, topics.pool_of("tiny", self.digest))
        await self.transport.publish(topic, encode(message), qos=1, timeout_s=WAIT_S)
        reply = await self.reply()
        if isinstance(reply, Opened):
            self.worker = reply.worker
        return reply

    async def send(self, message: ToWorker | bytes) -> None:
        payload = message if isinstance(message, bytes) else encode(message)
        topic = topics.steps_topic(self.address, self.worker)
        await self.transport.publish(topic, payload, timeout_s=WAIT_S)

    async def ask(self, message: ToWorker) -> ToEdge:
        await self.send(message)
        return await self.reply()

    async def reply(self) -> ToEdge:
        return await asyncio.wait_for(self.replies.get(), WAIT_S)


def step(epoch: int, number: int, start: int, count: int, *, want: bool = True) -> Step:
    values = torch.randn(start + count, 64, generator=torch.Generator().manual_seed(1))[start:]
    wants = [start + count - 1] if want else []
    return Step(epoch, number, start, count, CODECS["fp32"].encode(values), wants)


MakeEdge = Callable[[str], RawEdge]


@pytest.fixture(params=["memory", "redis"])
async def make_edge(
    request: pytest.FixtureRequest, tiny: Reference, embedded_server: ServerProcess, tmp_path
) -> AsyncIterator[MakeEdge]:
    """Edges at a worker with each kind of log."""
    given = {"broker.port": embedded_server.port, "general.bundle": str(tiny.bundle.path)}
    redis = RedisServer(tmp_path / "redis").start() if request.param == "redis" else None
    if redis is not None:
        given["worker.redis_url"] = redis.url
    settings = load(given, environ={})
    try:
        async with worker_service(settings), transport_for(settings.broker, "raw-edge", None) as transport:
            readiness = Readiness(transport, "home")
            assert await readiness.wait(edges=0, workers=1, timeout_s=WAIT_S)
            yield lambda session: RawEdge(transport, tiny.bundle.digest, session)
    finally:
        if redis is not None:
            redis.kill()


async def test_a_session_opens_catches_up_and_closes(make_edge: MakeEdge):
    edge = make_edge("s1")
    opened = await edge.open(1)
    assert isinstance(opened, Opened)
    assert opened.frontier == 0
    await edge.send(step(1, 1, 0, 5, want=False))
    reply = await edge.ask(step(1, 2, 5, 1))
    assert isinstance(reply, Tokens)
    assert [drawn.position for drawn in reply.tokens] == [5]
    await edge.send(Close(1))
    refused = await edge.ask(step(1, 3, 6, 1))
    assert isinstance(refused, Refused)
    assert refused.retryable


async def test_a_repeated_step_gets_the_same_reply_and_a_gap_is_named(make_edge: MakeEdge):
    edge = make_edge("s2")
    await edge.open(1)
    first = await edge.ask(step(1, 1, 0, 3))
    assert await edge.ask(step(1, 1, 0, 3)) == first
    assert await edge.ask(step(1, 2, 9, 1)) == Resume(1, 2, 3)


async def test_a_newer_epoch_takes_over_with_the_context_and_the_old_one_is_silenced(make_edge: MakeEdge):
    edge = make_edge("s3")
    await edge.open(1)
    first = await edge.ask(step(1, 1, 0, 4))
    again = await edge.open(2)
    assert isinstance(again, Opened)
    assert again.frontier <= 4
    await edge.send(step(1, 2, 4, 1))  # the replaced edge's late word
    reply = await edge.ask(step(2, 1, 0, 4))
    assert isinstance(reply, Tokens)
    assert reply.epoch == 2
    assert reply.tokens[0].token == first.tokens[0].token
    assert edge.replies.empty()


async def test_another_bundle_is_refused_with_both_digests(make_edge: MakeEdge):
    edge = make_edge("s4")
    refused = await edge.open(1, digest="f" * 64)
    assert isinstance(refused, Refused)
    assert not refused.retryable
    assert "f" * 64 in refused.message
    assert edge.digest in refused.message


async def test_hostile_messages_hurt_nobody(make_edge: MakeEdge):
    edge, hostile = make_edge("s5"), make_edge("s6")
    await edge.open(1)
    await hostile.open(1)
    for bad in (
        b"",
        b"\x01",
        b"\x02abc",
        b"\x01" + b"\x9f" * 500,
        bytes(MAX_MESSAGE_BYTES),
        encode(Open(1, "x", "y")),
    ):
        await hostile.send(bad)
    wrong_length = Step(1, 1, 0, 2, b"12345", [1])
    refused = await hostile.ask(wrong_length)
    assert isinstance(refused, Refused)
    assert refused.code == "codec"
    await hostile.open(2)
    beyond = await hostile.ask(Step(2, 1, 0, 900_000, b"", [1]))
    assert isinstance(beyond, Refused)
    assert beyond.code == "context_too_long"
    assert isinstance(await edge.ask(step(1, 1, 0, 3)), Tokens)
