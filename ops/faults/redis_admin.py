"""An operator's hands on a Redis: single commands over its own protocol (RESP 2).

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

import asyncio

from shared.errors import StoreError

Reply = bytes | int | list["Reply"] | None

TIMEOUT_S = 5.0


async def redis_command(port: int, *words: str | int) -> Reply:
    """Send one command to a Redis on this machine, over a connection of its own.

    Raises:
        StoreError: Redis is not there, too slow, or refuses.
    """
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await _exchange(port, [str(word).encode() for word in words])
    except (OSError, EOFError, TimeoutError) as error:
        raise StoreError(f"Redis on port {port} does not answer ({type(error).__name__})") from error


async def _exchange(port: int, words: list[bytes]) -> Reply:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"*%d\r\n" % len(words))
        writer.writelines(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        return await _read(reader)
    finally:
        writer.close()


async def _read(reader: asyncio.StreamReader) -> Reply:
    line = (await reader.readuntil(b"\r\n"))[:-2]
    kind, rest = line[:1], line[1:]
    match kind:
        case b"+":
            return rest
        case b":":
            return int(rest)
        case b"$" if rest != b"-1":
            return (await reader.readexactly(int(rest) + 2))[:-2]
        case b"*" if rest != b"-1":
            return [await _read(reader) for _ in range(int(rest))]
        case b"-":
            raise StoreError(f"Redis refuses: {rest.decode(errors='replace')}")
    return None
