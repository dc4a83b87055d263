"""An edge agent inside this process, for `antiphon ask` without a running one."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import count
from types import TracebackType
from typing import Any, Self

import msgspec

from edge_agent.agent import EdgeAgent
from edge_agent.request import Answer, AnswerToken, Request, TokenEvent
from edge_agent.service import edge_service
from ops.device_client import OnEvent
from shared.config import Settings
from shared.errors import LinkError


class LocalAsker:
    """Answers with an edge of its own, and the cloud if there is one.

    Args:
        settings: as for `antiphon edge serve`.
        connect_timeout_s: how long the broker is waited for before the first answer.
        timeout_s: for one answer.
    """

    def __init__(self, settings: Settings, connect_timeout_s: float, timeout_s: float) -> None:
        self._settings = settings
        self._connect_timeout_s = connect_timeout_s
        self._timeout_s = timeout_s
        self._stack = AsyncExitStack()
        self._agent: EdgeAgent | None = None

    async def __aenter__(self) -> Self:
        with_cloud = self._settings.edge.mode != "standalone"
        service = edge_service(self._settings, serve_devices=False, with_broker=with_cloud)
        self._agent = await self._stack.enter_async_context(service)
        await self._agent.wait_for_link(self._connect_timeout_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def ask(self, request: Request, on_event: OnEvent | None) -> dict[str, Any]:
        """The answer's JSON.

        Raises:
            LinkError: no answer in time.
            PromptError: the prompt does not fit the model.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._answer(request, on_event)
        except TimeoutError:
            msg = (
                f"no answer within {self._timeout_s:g} s from the edge in this process: "
                "give it longer with --timeout, or less to do with --max-new-tokens"
            )
            raise LinkError(msg) from None
        await asyncio.sleep(0)  # let a finished answer's farewell go out
        plain: dict[str, Any] = msgspec.to_builtins(answer)
        return plain

    async def _answer(self, request: Request, on_event: OnEvent | None) -> Answer:
        assert self._agent is not None
        if on_event is None:
            return await self._agent.answer(request)
        indices = count()

        def on_token(token: AnswerToken) -> None:
            on_event(TokenEvent.of(request.id, next(indices), token))

        return await self._agent.answer(request, on_token)
