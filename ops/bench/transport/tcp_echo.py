"""The floor: a raw asyncio connection, without MQTT and without a broker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Self

from ops.bench.transport.question import Size, answer, check, question
from ops.bench.transport.yardstick import timed

_LENGTH: Final = 4


async def serve(host: str, port: int, ready: Callable[[], None]) -> None:
    """Answer questions until cancelled."""
    server = await asyncio.start_server(_talk, host, port)
    ready()
    async with server:
        await server.serve_forever()


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            _write(writer, answer(await _read(reader)))
    writer.close()


class TcpEcho:
    """Asks over one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def connected(cls, host: str, port: int) -> AsyncIterator[Self]:
        """An echo, as long as the context is open."""
        reader, writer = await asyncio.open_connection(host, port)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()

    async def trips(self, size: Size, count: int) -> list[float]:
        """See `Yardstick.trips`."""
        asked = question(size)

        async def trip() -> None:
            _write(self._writer, asked)
            check(asked, await _read(self._reader))

        return await timed(trip, count)


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(len(data).to_bytes(_LENGTH, "big") + data)


async def _read(reader: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await reader.readexactly(_LENGTH), "big")
    return await reader.readexactly(length)
