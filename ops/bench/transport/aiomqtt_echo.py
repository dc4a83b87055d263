"""A bare aiomqtt client asks another: the library as it comes, but for TCP_NODELAY."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Self

import aiomqtt

from ops.bench.transport.question import Size, answer, check, question
from ops.bench.transport.yardstick import timed

QUESTIONS: Final = "echo/aiomqtt/{qos}/questions"
ANSWERS: Final = "echo/aiomqtt/{qos}/answers"
# Without it QoS 1 waits 40 ms for the kernel's delayed acknowledgements: nobody would run it so.
_NODELAY: Final = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)


def _client(host: str, port: int) -> aiomqtt.Client:
    return aiomqtt.Client(host, port, protocol=aiomqtt.ProtocolVersion.V5, socket_options=_NODELAY)


async def serve(host: str, port: int, ready: Callable[[], None], *, qos: int) -> None:
    """Answer questions until cancelled."""
    async with _client(host, port) as client:
        await client.subscribe(QUESTIONS.format(qos=qos), qos)
        ready()
        async for message in client.messages:
            await client.publish(ANSWERS.format(qos=qos), answer(message.payload), qos)


class AiomqttEcho:
    """Asks through a broker.

    Args:
        client: connected and subscribed to the answers.
        qos: of questions and answers.
    """

    def __init__(self, client: aiomqtt.Client, qos: int) -> None:
        self._client = client
        self._qos = qos

    @classmethod
    @asynccontextmanager
    async def connected(cls, host: str, port: int, *, qos: int) -> AsyncIterator[Self]:
        """An echo, as long as the context is open."""
        async with _client(host, port) as client:
            await client.subscribe(ANSWERS.format(qos=qos), qos)
            yield cls(client, qos)

    async def trips(self, size: Size, count: int) -> list[float]:
        """See `Yardstick.trips`."""
        asked, topic = question(size), QUESTIONS.format(qos=self._qos)
        messages = aiter(self._client.messages)

        async def trip() -> None:
            await self._client.publish(topic, asked, self._qos)
            check(asked, (await anext(messages)).payload)

        return await timed(trip, count)
