"""An edge agent that can also be asked over a wire of its own, past every broker.

What an edge says while its broker is gone can't be seen over MQTT, and token events at QoS 0 may be lost
there by design. The wire loses nothing: a `Request` as one JSON line goes in over a Unix socket, and a
`Line` comes out for each token, with the time at which it was decided, then one with the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Final

import msgspec

from edge_agent.agent import EdgeAgent
from edge_agent.request import AnswerToken, Failure, Request, TokenEvent, decode_request
from edge_agent.service import edge_service
from shared.config import Settings
from shared.errors import AntiphonError, LinkError, PromptError
from shared.log import context

# An answer of some hundred tokens is tens of kilobytes of JSON.
_LINE_BYTES: Final = 4 * 1024 * 1024


class Line(msgspec.Struct, omit_defaults=True):
    """What the edge says on the wire.

    Attributes:
        at_s: monotonic seconds, which all processes of a machine share.
        event: a token.
        answer: the end: an answer or a failure, as on the answer topic.
    """

    at_s: float
    event: TokenEvent | None = None
    answer: Any = None


OnTimedEvent = Callable[[TokenEvent, float], None]


async def serve_wired_edge(settings: Settings, stop: asyncio.Event, path: Path) -> None:
    """The edge agent with its device topics, and a wire at `path`, until `stop`."""
    with context(edge=settings.edge.id):
        async with edge_service(settings) as agent:
            path.unlink(missing_ok=True)  # noqa: ASYNC240  of one that was killed
            async with await asyncio.start_unix_server(_Wire(agent).serve, path, limit=_LINE_BYTES):
                await stop.wait()


async def ask_by_wire(path: Path, request: Request, on_event: OnTimedEvent) -> dict[str, Any]:
    """Ask the edge that listens at `path`.

    Returns:
        The answer's or the failure's JSON.

    Raises:
        LinkError: the edge is not there, or went away in mid-answer.
    """
    writer: asyncio.StreamWriter | None = None
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=_LINE_BYTES)
        writer.write(msgspec.json.encode(request) + b"\n")
        async for text in reader:
            line = msgspec.json.decode(text, type=Line)
            if line.event is None:
                answer: dict[str, Any] = line.answer
                return answer
            on_event(line.event, line.at_s)
    except (OSError, msgspec.DecodeError) as error:
        raise LinkError(f"the edge at {path.name} is gone ({type(error).__name__})") from error
    finally:
        if writer is not None:
            writer.close()
    raise LinkError(f"the edge at {path.name} went away in mid-answer")


class _Wire:
    """The edge's end: one request a connection."""

    def __init__(self, agent: EdgeAgent) -> None:
        self._agent = agent

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, PromptError):
            request = decode_request(await reader.readline())
            indices = count()

            def on_token(token: AnswerToken) -> None:
                event = TokenEvent.of(request.id, next(indices), token)
                if not writer.is_closing():  # an asker may give up; uvloop refuses to write to nobody
                    writer.write(_encoded(Line(time.monotonic(), event)))

            answer = await self._answer(request, on_token)
            if not writer.is_closing():
                writer.write(_encoded(Line(time.monotonic(), answer=answer)))
                await writer.drain()
        writer.close()

    async def _answer(self, request: Request, on_token: Callable[[AnswerToken], None]) -> Any:
        try:
            return await self._agent.answer(request, on_token)
        except AntiphonError as error:
            return Failure.of(request.id, error)


def _encoded(line: Line) -> bytes:
    return msgspec.json.encode(line) + b"\n"
