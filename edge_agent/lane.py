"""One direction of the bridge: messages of some topics, from one bus to the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence

import structlog

from broker.transport import Incoming
from edge_agent.bus import HOP, Bus
from shared.errors import LinkError, MessageTooLargeError

log = structlog.get_logger(__name__)

# What waits while the other bus is away: an hour of a sensor that speaks every ten seconds.
MAX_HELD = 360
# All of them together.
MAX_HELD_BYTES = 1024 * 1024
PUBLISH_TIMEOUT_S = 5.0
# A broker that is there and does not take a message so often will not take it at all.
MAX_TRIES = 3
# Only to look again; a lane waits for its bus as long as it takes.
_WAIT_S = 3600.0


class Lane:
    """Carries messages from one bus to the other, in order, at QoS 1, one at a time.

    Messages are held while the other bus is away; past the bounds the oldest go, for a newer state is
    worth more than an older one. They keep topic, payload, response topic, correlation data and user
    properties, and are not retained.

    Args:
        source: where the messages are published. target: where they go.
        filters: the topics.
        edge: this edge's id, for the mark that keeps messages from going in circles.

    Attributes:
        carried: messages that the target has taken.
        dropped: messages that were not carried: too many, too large, or refused.
    """

    def __init__(self, source: Bus, target: Bus, filters: Sequence[str], edge: str) -> None:
        self.carried = 0
        self.dropped = 0
        self._source = source
        self._target = target
        self._filters = tuple(filters)
        self._mark = (HOP, edge)
        self._held: deque[Incoming] = deque()
        self._held_bytes = 0
        self._full = False
        self._arrived = asyncio.Event()
        self._carrying: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen and carry."""
        self._carrying = asyncio.get_running_loop().create_task(self._carry())
        for each in self._filters:
            self._source.transport.subscribe(each, self._on_message, qos=1)

    async def aclose(self) -> None:
        """Stop; what is still held is dropped."""
        for each in self._filters:
            self._source.transport.unsubscribe(each)
        if self._carrying is not None:
            self._carrying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._carrying
        if self._held:
            log.warning("bridge_left_behind", to=self._target.name, messages=len(self._held))

    def _on_message(self, incoming: Incoming) -> None:
        if any(key == HOP for key, _ in incoming.user_properties):
            return
        self._held.append(incoming)
        self._held_bytes += len(incoming.payload)
        while len(self._held) > MAX_HELD or self._held_bytes > MAX_HELD_BYTES:
            self._drop_oldest()
        self._arrived.set()

    def _drop_oldest(self) -> None:
        topic = self._pop().topic
        self.dropped += 1
        if not self._full:  # said once; the ones that follow have the same cause
            self._full = True
            log.warning("bridge_full", to=self._target.name, topic=topic, held=len(self._held))

    def _pop(self) -> Incoming:
        incoming = self._held.popleft()
        self._held_bytes -= len(incoming.payload)
        return incoming

    async def _carry(self) -> None:
        while True:
            await self._wait_ready()
            await self._pass_on(self._pop())

    async def _wait_ready(self) -> None:
        """Wait for a message and for the bus that it goes to; a message waits where it is bounded."""
        transport = self._target.transport
        while not (self._held and transport.connected):
            if self._held:
                await transport.wait_connected(_WAIT_S)
            else:
                self._full = False
                self._arrived.clear()
                await self._arrived.wait()

    async def _pass_on(self, incoming: Incoming) -> None:
        tries = 0
        while tries < MAX_TRIES:
            try:
                await self._publish(incoming)
            except MessageTooLargeError as error:
                return self._refuse(incoming, str(error))
            except LinkError as error:
                reason = str(error)
                # Only a broker that is there has had its chance.
                tries += self._target.transport.connected
                await self._target.transport.wait_connected(_WAIT_S)
            else:
                self.carried += 1
                return None
        return self._refuse(incoming, reason)

    async def _publish(self, incoming: Incoming) -> None:
        await self._target.transport.publish(
            incoming.topic,
            incoming.payload,
            qos=1,
            response_topic=incoming.response_topic,
            correlation_data=incoming.correlation_data,
            user_properties=(*incoming.user_properties, self._mark),
            timeout_s=PUBLISH_TIMEOUT_S,
        )

    def _refuse(self, incoming: Incoming, reason: str) -> None:
        self.dropped += 1
        log.warning("bridge_dropped", to=self._target.name, topic=incoming.topic, reason=reason)
