"""Answers on their way to devices: each is held until the broker has it."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from broker.transport import Transport
from edge_agent.prompts import ReplyTo
from edge_agent.request import Failure
from shared.errors import AntiphonError, LinkError, MessageTooLargeError

log = structlog.get_logger(__name__)

# As many as may wait for their turn, and again as many repeats and refusals.
MAX_HELD = 128
# How long an answer is held for a device while the broker is away.
DELIVERY_TIMEOUT_S = 60.0
PUBLISH_TIMEOUT_S = 5.0

# User properties: names with their values.
Marks = tuple[tuple[str, str], ...]


class Deliveries:
    """Publishes answers in the background, over reconnections.

    Args:
        transport: the MQTT connection; started and stopped by the caller.
        marks: user properties of every answer.
    """

    def __init__(self, transport: Transport, marks: Marks = ()) -> None:
        self._transport = transport
        self._marks = marks
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, reply_to: ReplyTo, request_id: str, payload: bytes) -> None:
        """Deliver without waiting; what can't be held is dropped and logged."""
        if len(self._tasks) >= MAX_HELD:
            log.warning("answer_dropped", topic=reply_to.topic)
            return
        task = asyncio.get_running_loop().create_task(self._deliver(reply_to, request_id, payload))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self, timeout_s: float) -> None:
        """Let what is held go out for `timeout_s` at most, and drop the rest."""
        held = set(self._tasks)
        if held:
            await asyncio.wait(held, timeout=timeout_s)
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)

    async def _deliver(self, reply_to: ReplyTo, request_id: str, payload: bytes) -> None:
        """Publish; an answer that the broker does not take becomes the failure that says so."""
        try:
            try:
                await self._publish(reply_to, payload)
            except MessageTooLargeError as error:
                await self._publish(reply_to, _too_large(request_id, len(payload), error))
        except AntiphonError as error:
            log.warning("answer_undelivered", topic=reply_to.topic, code=error.code, reason=str(error))

    async def _publish(self, reply_to: ReplyTo, payload: bytes) -> None:
        """Publish until the broker has it.

        Raises:
            LinkError: the broker was away for `DELIVERY_TIMEOUT_S`.
            MessageTooLargeError: the broker does not take packets of this size.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + DELIVERY_TIMEOUT_S
        while (left_s := until_s - loop.time()) > 0 and await self._transport.wait_connected(left_s):
            try:
                await self._transport.publish(
                    reply_to.topic,
                    payload,
                    qos=1,
                    correlation_data=reply_to.correlation_data,
                    user_properties=self._marks,
                    timeout_s=min(left_s, PUBLISH_TIMEOUT_S),
                )
            except LinkError as error:
                log.info("answer_delayed", reason=str(error))
            else:
                return
        msg = f"the broker was away for {DELIVERY_TIMEOUT_S:g} s"
        raise LinkError(msg)


def _too_large(request_id: str, size_bytes: int, cause: MessageTooLargeError) -> bytes:
    msg = (
        f"the answer has {size_bytes} bytes, and {cause}: ask with a lower max_new_tokens, or let the "
        "broker take larger packets"
    )
    return msgspec.json.encode(Failure.of(request_id, MessageTooLargeError(msg)))
