"""Files of prompts: one JSON line in, one JSON line out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.request import Request, decode_request
from ops.asker import Asker
from shared.errors import AntiphonError, PromptError

MAX_FILE_PROMPTS = 100_000
# Prompts in flight at once: as many as the edge works on.
CONCURRENT_PROMPTS = 8
# Answers come in the order of the file: a slow one holds back at most so many finished ones.
MAX_AHEAD = 64


def request_of(fields: Mapping[str, Any]) -> Request:
    """A request from its fields; None counts as not given.

    Raises:
        PromptError: a field is of the wrong kind.
    """
    return decode_request(msgspec.json.encode({k: v for k, v in fields.items() if v is not None}))


def read_prompts(file: Path, template: Mapping[str, Any]) -> list[Request]:
    """The requests of a file; empty lines are skipped.

    Args:
        file: JSON lines, each a prompt or an object with `prompt` and other wishes.
        template: wishes of every request that does not say otherwise.

    Raises:
        PromptError: the file can't be read, or a line is no request; names the line.
    """
    requests: list[Request] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(_lines(file), 1):
        if line.strip():
            request = _request(file, number, line, template)
            _check_id(file, number, request, line_of)
            requests.append(request)
    if not 0 < len(requests) <= MAX_FILE_PROMPTS:
        msg = f"{file} holds {len(requests)} prompts; between 1 and {MAX_FILE_PROMPTS} are answered"
        raise PromptError(msg)
    return requests


async def answers(asker: Asker, requests: Sequence[Request]) -> AsyncIterator[dict[str, Any]]:
    """Each prompt with its answer's or failure's JSON, in order; a few are asked at once."""
    gate = asyncio.Semaphore(CONCURRENT_PROMPTS)
    window: deque[asyncio.Task[dict[str, Any]]] = deque()
    try:
        for request in requests:
            if len(window) == MAX_AHEAD:
                yield await window[0]
                window.popleft()
            window.append(asyncio.create_task(_answer(asker, request, gate)))
        while window:
            yield await window[0]
            window.popleft()
    finally:
        for task in window:
            task.cancel()
        await asyncio.gather(*window, return_exceptions=True)


async def _answer(asker: Asker, request: Request, gate: asyncio.Semaphore) -> dict[str, Any]:
    async with gate:
        try:
            answer = await asker.ask(request, None)
        except AntiphonError as error:
            answer = {"id": request.id, "error": {"code": error.code, "message": str(error)}}
    return {"prompt": request.prompt, **answer}


def _lines(file: Path) -> list[str]:
    try:
        # Only \n ends a line of JSON; `splitlines` would also cut inside strings, at U+2028 and others.
        return file.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        msg = f"can't read {file}: {error.strerror}"
        raise PromptError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{file} is not UTF-8 text: {error}"
        raise PromptError(msg) from error


def _request(file: Path, number: int, line: str, template: Mapping[str, Any]) -> Request:
    try:
        entry = msgspec.json.decode(line)
        wishes = {"prompt": entry} if isinstance(entry, str) else entry
        return request_of({**template, **wishes})
    except (msgspec.DecodeError, TypeError, PromptError) as error:
        msg = f'{file}, line {number}: not a JSON string or {{"prompt": …}} ({error})'
        raise PromptError(msg) from error


def _check_id(file: Path, number: int, request: Request, line_of: dict[str, int]) -> None:
    """Ids name requests: a second one would get the first one's answer."""
    if not request.id:
        return
    first = line_of.setdefault(request.id, number)
    if first != number:
        msg = f"{file}: lines {first} and {number} have the same id {request.id!r}; give each one of its own"
        raise PromptError(msg)
