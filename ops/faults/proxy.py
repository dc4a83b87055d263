"""A bad network between MQTT clients and a broker: delay, loss, copies, reordering, partition, reset.

It acts on whole packets, so that what arrives is always MQTT, and TCP's promises hold where MQTT relies on
them.

Source for what a partition does: RFC 9293 section 3.8.1. Both ends keep their connections, TCP repeats
what was not acknowledged, and when the partition is over everything arrives in order, the news that a
peer has closed included.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Coroutine
from random import Random
from typing import Any, Final

from ops.faults.lane import Dialect, Direction, Lane, OnPacket
from ops.faults.weather import Weather
from shared.errors import LinkError

__all__ = ["ChaosProxy", "Direction", "OnPacket", "Weather"]

_HOST: Final = "127.0.0.1"
# Closing sends RST at once instead of FIN after what is left.
_LINGER_NOT: Final = struct.pack("ii", 1, 0)


class ChaosProxy:
    """Listens on a free port and passes everything on to a broker, as badly as it is told to.

    Args:
        upstream_host: where the broker is; it may be down at times.
        upstream_port: its port.
        seed: each direction of each connection has dice of its own made of it, so that the n-th packet of
            the n-th connection has the same fate in every run.

    Attributes:
        up: the weather from clients to the broker. down: back. Replace them at any time; packets on their
            way keep the fate they have.
        on_packet: told of each packet just before it is passed on, once for each copy. What it awaits holds
            the packet and all behind it. When it calls `partition` or `cut`, the packet does not pass.
        passable: cleared while there is a partition.
    """

    def __init__(self, upstream_host: str, upstream_port: int, *, seed: int) -> None:
        self.up = Weather()
        self.down = Weather()
        self.on_packet: OnPacket | None = None
        self.passable = asyncio.Event()
        self.passable.set()
        self._upstream = (upstream_host, upstream_port)
        self._seed = seed
        self._accepted = 0
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], _Connection] = {}
        self._error: BaseException | None = None

    @property
    def port(self) -> int:
        """Where it listens.

        Raises:
            LinkError: it does not.
        """
        if self._server is None:
            raise LinkError("the proxy is not running; start it first")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    @property
    def waiting_bytes(self) -> int:
        """What has come in and not gone out."""
        return sum(connection.waiting_bytes for connection in self._connections.values())

    def weather(self, direction: Direction) -> Weather:
        """Of one direction."""
        return self.up if direction is Direction.UP else self.down

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, _HOST)

    async def stop(self) -> None:
        """Cut everything and listen no more.

        Raises:
            Exception: what `on_packet` raised first, if it did; its connection ended there.
        """
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        await self.cut()
        await server.wait_closed()
        if self._error is not None:
            raise self._error

    def partition(self) -> None:
        """Half-open: sockets stay open, new ones are accepted, nothing passes and nobody is told."""
        self.passable.clear()

    def heal(self) -> None:
        """End the partition: what was held passes, in order."""
        self.passable.set()

    async def cut(self) -> None:
        """Reset every connection, at both ends; what is on its way is lost."""
        tasks = list(self._connections)
        for task, connection in self._connections.items():
            connection.abort()
            task.cancel()
        # Called from within `on_packet`, it must not wait for its own end.
        if tasks and not any(each.holds_current_task() for each in self._connections.values()):
            await asyncio.wait(tasks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # it stopped meanwhile
            writer.transport.abort()
            return
        self._accepted += 1
        connection = _Connection(self, f"{self._seed} {self._accepted}", reader, writer)
        task = asyncio.get_running_loop().create_task(connection.run(*self._upstream))
        self._connections[task] = connection
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._connections[task]
        error = None if task.cancelled() else task.exception()
        self._error = self._error or error


class _Connection:
    """A client's connection and the one to the broker that belongs to it."""

    def __init__(
        self, proxy: ChaosProxy, seed: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        dialect = Dialect()
        self._up, self._down = (
            Lane(direction, proxy, Random(f"{seed} {direction.name}"), dialect)  # noqa: S311  not for secrets
            for direction in Direction
        )
        self._proxy = proxy
        self._client = (reader, writer)
        self._writers = [writer]
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, host: str, port: int) -> None:
        """Until either end is gone and the other one knows."""
        try:
            await self._carry(host, port)
        finally:
            for task in self._tasks:
                task.cancel()
            for writer in self._writers:
                _reset(writer) if self._up.reset or self._down.reset else writer.close()

    def abort(self) -> None:
        """Reset both ends."""
        for writer in self._writers:
            _reset(writer)

    @property
    def waiting_bytes(self) -> int:
        """In both directions."""
        return self._up.waiting_bytes + self._down.waiting_bytes

    def holds_current_task(self) -> bool:
        """Whether the caller is called by this connection."""
        return asyncio.current_task() in self._tasks

    async def _carry(self, host: str, port: int) -> None:
        reader, writer = self._client
        self._spawn(self._up.take_in(reader))
        await self._proxy.passable.wait()
        if self._up.ended:
            return  # it gave up before the broker could hear of it
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(host, port)
        except OSError:
            self._up.reset = True  # nobody is there: the nearest to a refusal
            return
        self._writers.append(upstream_writer)
        self._spawn(self._down.take_in(upstream_reader))
        ends = {self._spawn(self._up.give_out(upstream_writer)), self._spawn(self._down.give_out(writer))}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in self._tasks:
            if task.done():
                task.result()  # an error of the hook, or of ours, shall be seen

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        return task


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    # It may be closed already.
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    writer.transport.abort()
