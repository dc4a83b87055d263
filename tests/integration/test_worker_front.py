"""What a worker answers to good, late, repeated and hostile messages, over a real broker."""

from __future__ import annotations

import math
import struct
from collections.abc import AsyncIterator, Callable

import pytest
import torch

from broker.connect import transport_for
from cloud_worker.service import worker_service
from ops.readiness import Readiness
from shared.config import load
from shared.tensors.codec import codec_named
from shared.wire.codec import MAX_MESSAGE_BYTES, encode
from shared.wire.messages import Close, Open, Opened, Refused, Resume, Step, Tokens
from tests.integration.conftest import Reference
from tests.parity.cases import VOCAB
from tests.raw_edge import HIDDEN, WAIT_S, RawEdge, step
from tests.servers import RedisServer, ServerProcess

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


async def test_a_session_that_goes_on_elsewhere_is_forgotten_and_its_log_stays(make_edge: MakeEdge):
    edge = make_edge("s7")
    await edge.open(1)
    await edge.ask(step(1, 1, 0, 5))
    await edge.send(Close(1, elsewhere=True))
    refused = await edge.ask(step(1, 2, 5, 1))
    assert isinstance(refused, Refused)
    again = await edge.open(2)
    assert isinstance(again, Opened)
    assert again.frontier == 5


async def test_a_repeated_step_gets_the_same_reply_and_a_gap_is_named(make_edge: MakeEdge):
    edge = make_edge("s2")
    await edge.open(1)
    first = await edge.ask(step(1, 1, 0, 3))
    assert await edge.ask(step(1, 1, 0, 3)) == first
    assert await edge.ask(step(1, 2, 9, 1)) == Resume(1, 2, 3, taken=1)


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
    assert isinstance(await edge.ask(step(1, 1, 0, 3)), Tokens)
    assert isinstance(await hostile.ask(step(1, 1, 0, 3)), Tokens)


def fp32(*values: float) -> bytes:
    """A row of the tiny model that begins with these values."""
    return struct.pack(f"<{HIDDEN}f", *values, *[0.0] * (HIDDEN - len(values)))


def int8(scale: float) -> bytes:
    return struct.pack("<f", scale) + codec_named("int8").encode(torch.ones(1, HIDDEN))[4:]


BROKEN_STEPS = [
    ("fp32", Step(1, 1, 0, 2, b"12345", [1]), "codec", "5 bytes of states"),
    ("fp32", Step(1, 1, 0, 1, fp32(math.nan), [0]), "codec", "NaN or infinity"),
    ("fp32", Step(1, 1, 0, 2, fp32(1.0) + fp32(math.inf), [1]), "codec", "NaN or infinity"),
    ("int8", Step(1, 1, 0, 1, int8(math.inf), [0]), "codec", "NaN or infinity"),
    ("fp16", Step(1, 1, 0, 1, fp32(1.0), [0]), "codec", "256 bytes of states"),
    ("fp32", Step(1, 1, 0, 1, fp32(1.0), [1]), "wire", "wanted position"),
    ("fp32", Step(1, 1, 0, 2, fp32(1.0) * 2, [1, 0]), "wire", "ascending order"),
    ("fp32", Step(1, 1, 0, 2, fp32(1.0) * 2, [1, 1]), "wire", "ascending order"),
    ("fp32", Step(1, 1, 0, 1, fp32(1.0), [0], [[VOCAB]]), "wire", "outside the model's vocabulary"),
    ("fp32", Step(1, 1, 0, 900_000, b"", [1]), "context_too_long", "max_context_tokens"),
    ("fp32", Step(1, 1, 0, 1025, b"", [1]), "context_too_long", "1025 positions"),
]


async def test_a_step_that_cannot_be_run_fails_its_session_with_the_reason_and_no_other(make_edge: MakeEdge):
    edge = make_edge("good")
    await edge.open(1)
    for number, (codec, bad, code, cause) in enumerate(BROKEN_STEPS, start=1):
        hostile = make_edge(f"bad-{number}")
        await hostile.open(1, codec=codec)
        await hostile.send(bad)
        reply = await edge.ask(step(1, number, 0, 3))
        refused = await hostile.reply()
        assert isinstance(refused, Refused), bad
        assert (refused.code, refused.retryable) == (code, False), bad
        assert cause in refused.message
        assert isinstance(reply, Tokens)


async def test_a_session_that_was_refused_for_good_leaves_no_log_behind(make_edge: MakeEdge):
    edge = make_edge("s7")
    await edge.open(1)
    await edge.ask(step(1, 1, 0, 4))
    assert isinstance(await edge.ask(Step(1, 2, 4, 1, fp32(math.nan), [4])), Refused)
    opened = await edge.open(2)
    assert isinstance(opened, Opened)
    assert opened.frontier == 0
