"""An edge that speaks to workers message by message, good ones and bad ones."""

from __future__ import annotations

import asyncio

import torch

from broker.group_reader import GroupReader
from broker.mqtt import MqttTransport
from shared.tensors.codec import CODECS
from shared.wire import topics
from shared.wire.codec import decode_to_edge, encode
from shared.wire.messages import Open, Opened, Step, ToEdge, ToWorker

WAIT_S = 20.0
HIDDEN = 64  # of the tiny model


class RawEdge:
    """Speaks to workers message by message."""

    def __init__(self, transport: MqttTransport, digest: str, session: str, edge: str = "hub") -> None:
        self.transport = transport
        self.digest = digest
        self.address = topics.SessionAddress("home", edge, session)
        self.replies: asyncio.Queue[ToEdge] = asyncio.Queue()
        self.worker = ""
        transport.subscribe(
            topics.reply_topic(self.address), lambda m: self.replies.put_nowait(decode_to_edge(m.payload))
        )
        # What came in a group finds its session by the topic on which it would have come alone.
        transport.subscribe(
            topics.reply_group_topic(self.address.owner), GroupReader(transport.subscriptions.dispatch)
        )

    async def open(self, epoch: int, digest: str | None = None, codec: str = "fp32") -> ToEdge:
        await self.transport.subscribed(topics.reply_topic(self.address), WAIT_S)
        await self.transport.subscribed(topics.reply_group_topic(self.address.owner), WAIT_S)
        message = Open(epoch, digest or self.digest, codec)
        topic = topics.open_topic(self.address, topics.pool_of("tiny", self.digest))
        await self.transport.publish(topic, encode(message), qos=1, timeout_s=WAIT_S)
        reply = await self.reply()
        while reply.epoch < epoch:  # as every edge does with words of an older epoch
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
    values = torch.randn(start + count, HIDDEN, generator=torch.Generator().manual_seed(1))[start:]
    wants = [start + count - 1] if want else []
    return Step(epoch, number, start, count, CODECS["fp32"].encode(values), wants)
