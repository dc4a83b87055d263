"""One direction of a connection through the proxy: packets in from one socket, out to the other when due."""

from __future__ import annotations

import asyncio
import heapq
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from itertools import count
from random import Random
from typing import Final, NamedTuple, Protocol

import structlog

from broker.embedded.decoding import decode
from broker.embedded.framing import Framer
from broker.embedded.packets import MQTT_311, Connect, Packet, Publish
from broker.embedded.primitives import varint
from broker.embedded.reasons import PacketError
from ops.faults.weather import Forecast, Weather

_log = structlog.get_logger(__name__)

MAX_PACKET_BYTES: Final = 16 * 1024 * 1024
"""The brokers behind the proxy take 1 MiB at most."""

MAX_WAITING_BYTES: Final = 4 * 1024 * 1024
"""Then the sender's socket is not read on. 4 MiB is 300 ms of 100 Mbit/s."""

_READ_BYTES: Final = 65_536


class Direction(Enum):
    """Which way a packet goes."""

    UP = "to the broker"
    DOWN = "to the client"


OnPacket = Callable[[Direction, Packet], Awaitable[None] | None]


class Surroundings(Protocol):
    """What all lanes of a proxy have around them; it may change at any time."""

    @property
    def passable(self) -> asyncio.Event:
        """Set unless there is a partition."""

    @property
    def on_packet(self) -> OnPacket | None:
        """Told of each packet before it is passed on."""

    def weather(self, direction: Direction) -> Weather:
        """Of one direction."""


@dataclass(slots=True)
class Dialect:
    """The MQTT version of a connection, known from its CONNECT on."""

    version: int = MQTT_311


class _Waiting(NamedTuple):
    """A packet on its way; `packet` is None where only its bytes are known."""

    due_s: float
    number: int
    data: bytes
    packet: Packet | None


class Lane:
    """Takes packets in and gives them out in the order in which they are due.

    Attributes:
        ended: nothing more comes in. reset: and it ended by an error.
        waiting_bytes: of packets that came in and did not go out.
    """

    def __init__(self, direction: Direction, around: Surroundings, rng: Random, dialect: Dialect) -> None:
        self.ended = False
        self.reset = False
        self._direction = direction
        self._around = around
        self._dialect = dialect
        self._forecast = Forecast(rng)
        self._framer = Framer(MAX_PACKET_BYTES)
        self._waiting: list[_Waiting] = []
        self.waiting_bytes = 0
        self._numbers = count()
        self._came = asyncio.Event()
        self._left = asyncio.Event()

    async def take_in(self, reader: asyncio.StreamReader) -> None:
        """Read packets until the sender is gone; that too is news which travels behind them."""
        try:
            while data := await reader.read(_READ_BYTES):
                for first, body in self._framer.feed(data):
                    await self._until_room()
                    self._take(first, body)
        except OSError:
            self.reset = True
        except PacketError as error:
            _log.warning("proxy_not_mqtt", direction=self._direction.value, error=str(error))
            self.reset = True
        finally:
            self._put(b"", None)
            self.ended = True

    async def give_out(self, writer: asyncio.StreamWriter) -> None:
        """Write packets when they are due, until the end was reached or the receiver is gone."""
        # What drain waits for is then that the kernel has everything: the only buffer is our own.
        writer.transport.set_write_buffer_limits(high=0)
        try:
            while (waiting := await self._next()) is not None:
                await self._show(waiting.packet)
                await self._around.passable.wait()
                writer.write(waiting.data)
                await writer.drain()
        except OSError:
            self.reset = True

    def _take(self, first: int, body: bytes) -> None:
        try:
            packet = decode(first, body, self._dialect.version)
        except PacketError:
            packet = None  # QoS 2, for one: not for us to judge
        if isinstance(packet, Connect):
            self._dialect.version = packet.version
        self._put(bytes((first,)) + varint(len(body)) + body, packet)

    def _put(self, data: bytes, packet: Packet | None) -> None:
        weather, now_s = self._around.weather(self._direction), asyncio.get_running_loop().time()
        for due_s in self._forecast.arrivals(weather, len(data), now_s, mortal=_is_mortal(packet)):
            heapq.heappush(self._waiting, _Waiting(due_s, next(self._numbers), data, packet))
            self.waiting_bytes += len(data)
        self._came.set()

    async def _until_room(self) -> None:
        while self.waiting_bytes >= MAX_WAITING_BYTES:
            self._left.clear()
            await self._left.wait()

    async def _next(self) -> _Waiting | None:
        """The first packet, when it is due and may pass; None when all have."""
        while True:
            await self._around.passable.wait()
            if not self._waiting and self.ended:
                return None
            wait_s = self._due_in_s()
            if wait_s is not None and wait_s <= 0:
                return self._pop()
            await self._until_came(wait_s)

    def _due_in_s(self) -> float | None:
        """Until the first packet; None: there is none."""
        return self._waiting[0].due_s - asyncio.get_running_loop().time() if self._waiting else None

    async def _until_came(self, timeout_s: float | None) -> None:
        """Wait for a further packet, which may be due before the first one."""
        self._came.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._came.wait()
        except TimeoutError:
            pass

    def _pop(self) -> _Waiting:
        waiting = heapq.heappop(self._waiting)
        self.waiting_bytes -= len(waiting.data)
        self._left.set()
        return waiting

    async def _show(self, packet: Packet | None) -> None:
        on_packet = self._around.on_packet
        if on_packet is None or packet is None:
            return
        held = on_packet(self._direction, packet)
        if inspect.isawaitable(held):
            await held


def _is_mortal(packet: Packet | None) -> bool:
    """Whether it may be lost: not when later packets need the topic alias that it introduces."""
    return isinstance(packet, Publish) and packet.qos == 0 and packet.properties.topic_alias is None
