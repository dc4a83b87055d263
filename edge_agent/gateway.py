"""Device topics: prompts come in over MQTT, answers and token events go out on the bus they came from.

…/device/{device}/prompt   JSON `Request`, QoS 1
…/device/{device}/answer   JSON `Answer` or `Failure`, QoS 1 (or the prompt's own response topic,
inside the device's subtree)
…/device/{device}/stream   JSON `TokenEvent`s, QoS 0, when asked for
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import msgspec
import structlog

from broker.transport import Incoming
from edge_agent.agent import EdgeAgent
from edge_agent.bus import Bus
from edge_agent.prompts import PromptKey, PromptLedger, ReplyTo
from edge_agent.request import Failure, Request, decode_request, request_id_of
from edge_agent.token_events import TokenEvents
from shared.errors import AntiphonError, BusyError, LinkError, PromptError
from shared.wire import topics
from shared.wire.ids import new_id
from shared.wire.topics import DeviceAddress

log = structlog.get_logger(__name__)

# Prompts waiting for their turn: a minute or so of talk of a whole home; more get `busy` at once.
MAX_WAITING = 64
# Prompts worked on at once: more would only share the same engine thread.
MAX_RUNNING = 8
# A mark is a number or a UUID; the transport leaves room for one this long beside an answer.
MAX_CORRELATION_BYTES = 128
# How long prompts in hand may still take when the edge is told to stop.
GRACE_S = 5.0
# How long their answers may then take to the broker.
LAST_WORDS_S = 2.0


class _Prompt(NamedTuple):
    """A prompt with who asked it."""

    device: DeviceAddress
    request: Request
    key: PromptKey


class _Outcome(NamedTuple):
    """The JSON of an answer or a failure; `final`: asking again would bring the same."""

    payload: bytes
    final: bool


class DeviceGateway:
    """Serves the devices of one home on all its buses.

    The ledger is one: a prompt that a device asks on two buses is worked on once and answered on each.

    Args:
        buses: where devices speak, each under a name of its own; their connections are started and stopped
            by the caller.
        agent: answers.
        tenant: whose home.
    """

    def __init__(self, buses: Sequence[Bus], agent: EdgeAgent, *, tenant: str) -> None:
        self._buses = {bus.name: bus for bus in buses}
        self._agent = agent
        self._filter = topics.prompt_filter(tenant)
        self._waiting: asyncio.Queue[_Prompt] = asyncio.Queue(MAX_WAITING)
        self._ledger = PromptLedger()
        self._streams: dict[PromptKey, TokenEvents] = {}
        self._servers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Take prompts."""
        loop = asyncio.get_running_loop()
        self._servers = [loop.create_task(self._serve()) for _ in range(MAX_RUNNING)]
        for bus in self._buses.values():
            bus.transport.subscribe(self._filter, partial(self._on_prompt, bus), qos=1)

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """Take no more prompts and finish those in hand; after `grace_s`, tell the rest to ask again."""
        for bus in self._buses.values():
            bus.transport.unsubscribe(self._filter)
        await _within(grace_s, self._waiting)
        for server in self._servers:
            server.cancel()
        await asyncio.gather(*self._servers, return_exceptions=True)
        for key in self._ledger.in_hand:
            self._finish(key, _failed(key.id, LinkError("the edge is stopping: ask again")))
        await asyncio.gather(*(bus.deliveries.aclose(LAST_WORDS_S) for bus in self._buses.values()))

    def _on_prompt(self, bus: Bus, incoming: Incoming) -> None:
        try:
            device = topics.parse_prompt(incoming.topic)
        except AntiphonError as error:
            log.warning("prompt_refused", code=error.code, reason=str(error))
            return
        reply_to = _reply_to(bus, device, incoming)
        request_id = request_id_of(incoming.payload)
        try:
            request = _read(incoming)
            request_id = request.id
            self._take(_Prompt(device, request, PromptKey.of(device, request)), reply_to)
        except (BusyError, PromptError) as error:
            self._send(reply_to, request_id, _failed(request_id, error).payload)

    def _take(self, prompt: _Prompt, reply_to: ReplyTo) -> None:
        """Repeat a known prompt's answer, now or when it is there; queue a new one.

        Raises:
            BusyError: no room for a new one.
            PromptError: another one of its name is in hand.
        """
        self._ledger.check_name(prompt.key)
        kept = self._ledger.answer(prompt.key, _now_s())
        if kept is not None:
            self._send(reply_to, prompt.request.id, kept)
        elif not self._ledger.join(prompt.key, reply_to):
            if self._waiting.full():
                raise BusyError(f"{MAX_WAITING} prompts are waiting: ask again in a moment")
            self._ledger.begin(prompt.key, reply_to)
            self._waiting.put_nowait(prompt)
            self._open_stream(prompt, self._buses[reply_to.bus])
        elif prompt.request.stream and prompt.key in self._streams:
            self._streams[prompt.key].join(self._buses[reply_to.bus])

    def _open_stream(self, prompt: _Prompt, bus: Bus) -> None:
        if prompt.request.stream:
            topic = topics.device_topic(prompt.device, "stream")
            self._streams[prompt.key] = TokenEvents(topic, prompt.request.id, bus)

    def _send(self, reply_to: ReplyTo, request_id: str, payload: bytes) -> None:
        self._buses[reply_to.bus].deliveries.send(reply_to, request_id, payload)

    async def _serve(self) -> None:
        while True:
            prompt = await self._waiting.get()
            try:
                self._finish(prompt.key, await self._answer(prompt))
            finally:
                self._waiting.task_done()

    def _finish(self, key: PromptKey, outcome: _Outcome) -> None:
        """Send an outcome wherever it is awaited."""
        self._streams.pop(key, None)
        for reply_to in self._ledger.finish(key, outcome.payload, _now_s(), keep=outcome.final):
            self._send(reply_to, key.id, outcome.payload)

    async def _answer(self, prompt: _Prompt) -> _Outcome:
        """The answer; a failure, if there is none. Never raises."""
        stream = self._streams.get(prompt.key)
        try:
            answer = await self._agent.answer(prompt.request, stream.send if stream else None)
            return _Outcome(msgspec.json.encode(answer), final=True)
        except AntiphonError as error:
            return _failed(prompt.request.id, error)
        except Exception as error:
            log.exception("prompt_failed")
            return _failed(prompt.request.id, error)
        finally:
            if stream is not None:
                stream.end()


def _reply_to(bus: Bus, device: DeviceAddress, incoming: Incoming) -> ReplyTo:
    """The prompt's own response topic where it harms nobody, else the device's answer topic."""
    wished, mark = incoming.response_topic, incoming.correlation_data
    own = wished if wished and topics.own_subtree(device, wished) else None
    fits = mark is None or len(mark) <= MAX_CORRELATION_BYTES
    return ReplyTo(own or topics.device_topic(device, "answer"), mark if fits else None, bus.name)


def _read(incoming: Incoming) -> Request:
    """The request, with an id.

    Raises:
        PromptError: it is none, or its mark is too long to be repeated.
    """
    if len(incoming.correlation_data or b"") > MAX_CORRELATION_BYTES:
        raise PromptError(f"correlation data may have {MAX_CORRELATION_BYTES} bytes at most")
    request = decode_request(incoming.payload)
    return request if request.id else msgspec.structs.replace(request, id=new_id("p-"))


def _failed(request_id: str, error: Exception) -> _Outcome:
    failure = Failure.of(request_id, error)
    return _Outcome(msgspec.json.encode(failure), final=not failure.error.retryable)


def _now_s() -> float:
    return asyncio.get_running_loop().time()


async def _within(timeout_s: float, queue: asyncio.Queue[_Prompt]) -> None:
    """Wait until everything that was queued is done, for `timeout_s` at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await queue.join()
