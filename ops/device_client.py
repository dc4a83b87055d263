"""A device of the home, as a client: publishes prompts, gets answers and token events.

Losing the broker loses no answer: after a reconnection the prompt is published again under the same
id, and the edge repeats the answer instead of working again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from broker.transport import Incoming, Transport
from edge_agent.request import Request, TokenEvent
from shared.errors import LinkError, PromptError
from shared.wire import topics
from shared.wire.ids import new_id
from shared.wire.topics import DeviceAddress

# How often an unanswered prompt is published again; the edge answers each id once.
REPEAT_INTERVAL_S = 2.0

OnEvent = Callable[[TokenEvent], None]


class DeviceClient:
    """One device on a transport.

    Args:
        transport: the MQTT connection; started and stopped by the caller.
        tenant: whose home. device: this device's id.
    """

    def __init__(self, transport: Transport, *, tenant: str, device: str) -> None:
        self._transport = transport
        self._address = DeviceAddress(tenant, device)
        self._answers: dict[str, asyncio.Future[bytes]] = {}
        self._events: dict[str, OnEvent] = {}
        transport.subscribe(topics.device_topic(self._address, "answer"), self._on_answer, qos=1)
        transport.subscribe(topics.device_topic(self._address, "stream"), self._on_stream)

    async def ask(
        self, request: Request, timeout_s: float, on_event: OnEvent | None = None
    ) -> dict[str, Any]:
        """Publish a prompt and wait for its answer.

        Args:
            request: the prompt; an id is given to it if it has none.
            timeout_s: for the whole answer.
            on_event: called with each token event; the request must ask for the stream.

        Returns:
            The answer's or the failure's JSON.

        Raises:
            LinkError: no answer in time.
            PromptError: a prompt of this id still waits for its answer.
        """
        request_id = request.id or new_id("ask-")
        if request_id in self._answers:
            msg = f"a prompt with the id {request_id!r} is being asked: give each prompt an id of its own"
            raise PromptError(msg)
        request = msgspec.structs.replace(request, id=request_id)
        self._answers[request_id] = asyncio.get_running_loop().create_future()
        if on_event is not None:
            self._events[request_id] = on_event
        try:
            async with asyncio.timeout(timeout_s):
                payload = await self._repeat(request)
        except TimeoutError:
            msg = f"no answer within {timeout_s:g} s: is an edge agent running (`antiphon up`)?"
            raise LinkError(msg) from None
        finally:
            self._answers.pop(request_id, None)
            self._events.pop(request_id, None)
        answer: dict[str, Any] = msgspec.json.decode(payload)
        return answer

    async def _repeat(self, request: Request) -> bytes:
        """Publish until the answer is there; the caller bounds the time."""
        topic = topics.device_topic(self._address, "prompt")
        answer_topic = topics.device_topic(self._address, "answer")
        payload = msgspec.json.encode(request)
        answer = self._answers[request.id]
        while True:
            try:
                await self._transport.subscribed(answer_topic, REPEAT_INTERVAL_S)
                await self._transport.publish(topic, payload, qos=1, timeout_s=REPEAT_INTERVAL_S)
            except LinkError:
                await self._transport.wait_connected(REPEAT_INTERVAL_S)
            done, _ = await asyncio.wait([answer], timeout=REPEAT_INTERVAL_S)
            if done:
                return answer.result()

    def _on_answer(self, incoming: Incoming) -> None:
        try:
            request_id = msgspec.json.decode(incoming.payload)["id"]
        except (msgspec.DecodeError, KeyError, TypeError):
            return
        answer = self._answers.get(request_id)
        if answer is not None and not answer.done():
            answer.set_result(incoming.payload)

    def _on_stream(self, incoming: Incoming) -> None:
        try:
            event = msgspec.json.decode(incoming.payload, type=TokenEvent)
        except msgspec.DecodeError:
            return
        on_event = self._events.get(event.id)
        if on_event is not None:
            on_event(event)
