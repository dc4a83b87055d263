"""Our own transport asks itself: what it costs without sessions, worker and engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Self

from broker.mqtt import MqttTransport
from broker.mqtt_settings import MqttSettings
from broker.transport import Incoming
from ops.bench.transport.question import Size, answer, check, question
from ops.bench.transport.yardstick import TIMEOUT_S, timed
from shared.wire.ids import new_id

QUESTIONS: Final = "echo/own/questions"
ANSWERS: Final = "echo/own/answers"


def own_transport(host: str, port: int) -> MqttTransport:
    """A transport under a new client id."""
    return MqttTransport(MqttSettings(host=host, port=port, client_id=new_id("bench-")))


async def serve(host: str, port: int, ready: Callable[[], None]) -> None:
    """Answer questions until cancelled."""
    async with own_transport(host, port) as transport:

        def reply(incoming: Incoming) -> None:
            transport.publish_soon(ANSWERS, answer(incoming.payload))

        transport.subscribe(QUESTIONS, reply)
        await transport.wait_connected(TIMEOUT_S)
        await transport.subscribed(QUESTIONS, TIMEOUT_S)
        ready()
        await asyncio.Event().wait()


class OwnEcho:
    """Asks through a broker.

    Args:
        transport: connected.
    """

    def __init__(self, transport: MqttTransport) -> None:
        self._transport = transport
        self._answer: asyncio.Future[bytes] | None = None
        transport.subscribe(ANSWERS, self._take)

    @classmethod
    @asynccontextmanager
    async def connected(cls, host: str, port: int) -> AsyncIterator[Self]:
        """An echo, as long as the context is open."""
        async with own_transport(host, port) as transport:
            echo = cls(transport)
            await transport.wait_connected(TIMEOUT_S)
            await transport.subscribed(ANSWERS, TIMEOUT_S)
            yield echo

    async def trips(self, size: Size, count: int) -> list[float]:
        """See `Yardstick.trips`."""
        asked = question(size)

        async def trip() -> None:
            self._answer = asyncio.get_running_loop().create_future()
            self._transport.publish_soon(QUESTIONS, asked)  # unsent, its answer never comes
            check(asked, await self._answer)

        return await timed(trip, count)

    def _take(self, incoming: Incoming) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(incoming.payload)
