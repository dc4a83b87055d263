"""The benches' link, as a process between real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ops.bench.link_proxy import Link, LinkProxy
from tests.servers import free_port

HOST = "127.0.0.1"


@asynccontextmanager
async def behind(link: Link) -> AsyncIterator[LinkProxy]:
    """An echo behind a link."""
    echoes: set[asyncio.Task[None]] = set()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        echoes.add(asyncio.create_task(echo(reader, writer)))

    server = await asyncio.start_server(accept, HOST, 0)
    with LinkProxy(link, server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    async with asyncio.timeout(10):
        await asyncio.gather(*echoes)
    server.close()
    await server.wait_closed()


async def _round_trip_s(proxy: LinkProxy, payload: bytes) -> float:
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    writer.write(b"x")
    await reader.readexactly(1)  # the connection to the echo stands
    started_s = time.perf_counter()
    writer.write(payload)
    assert await reader.readexactly(len(payload)) == payload
    took_s = time.perf_counter() - started_s
    writer.close()
    await writer.wait_closed()
    return took_s


async def test_an_echo_takes_at_least_the_round_trip() -> None:
    async with behind(Link(80, 1000)) as proxy:
        assert await _round_trip_s(proxy, b"hello") >= 0.080


async def test_long_messages_take_the_time_of_the_line_in_each_direction() -> None:
    payload = bytes(range(256)) * 200  # 51,200 bytes: 51 ms at 8 Mbit/s
    async with behind(Link(0, 8)) as proxy:
        assert await _round_trip_s(proxy, payload) >= 0.051


async def test_a_link_can_change_while_it_is_in_use() -> None:
    async with behind(Link(400, 1000)) as proxy:
        slow_s = await _round_trip_s(proxy, b"hello")
        proxy.set_link(Link(0, 1000))
        assert await _round_trip_s(proxy, b"hello") < slow_s


async def test_every_byte_is_counted_in_its_direction() -> None:
    async with behind(Link(0, 1000)) as proxy:
        await _round_trip_s(proxy, b"z" * 5000)
        assert proxy.traffic() == (5001, 5001)


async def test_a_link_to_nobody_closes_what_connects() -> None:
    with LinkProxy(Link(0, 1000), free_port()) as proxy:
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionResetError):
            await writer.wait_closed()
