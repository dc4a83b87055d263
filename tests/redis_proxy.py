"""A proxy before Redis that cuts the line exactly between a script's write and its answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Self


class ReplyEater:
    """Passes everything on, except some answers to scripts: those reach nobody, and the line is cut.

    Args:
        host: of Redis. port: of Redis.
        eats: whether the answer to the n-th script (from 1) is lost.

    Attributes:
        scripts_seen: how many scripts Redis has run.
        port: where it listens.
    """

    def __init__(self, host: str, port: int, eats: Callable[[int], bool]) -> None:
        self._target = (host, port)
        self._eats = eats
        self.scripts_seen = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, out = await asyncio.open_connection(*self._target)
        with contextlib.suppress(ConnectionError):
            while request := await reader.read(65536):
                out.write(request)
                reply = await upstream.read(65536)
                if b"EVALSHA" in request:
                    self.scripts_seen += 1
                    if self._eats(self.scripts_seen):
                        break
                writer.write(reply)
        out.close()
        writer.close()
