"""One direction of the bridge: messages of some topics, from one bus to the other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

import structlog

from broker.transport import Incoming
from edge_agent.bus import HOP, Bus
from edge_agent.held import Dated, Held
from edge_agent.replays import Replays
from shared.errors import LinkError, MessageTooLargeError

log = structlog.get_logger(__name__)

PUBLISH_TIMEOUT_S = 5.0
# A broker that is there and does not take a message so often will not take it at all.
MAX_TRIES = 3
# Only to look again; a lane waits for its bus as long as it takes.
_WAIT_S = 3600.0


class Lane:
    """Carries messages from one bus to the other, in order, at QoS 1, one at a time.

    Messages are held while the other bus is away; past the bounds the oldest go, for a newer state is
    worth more than an older one. They keep topic, payload, response topic, correlation data, user
    properties, what is left of their time, and whether they are retained.

    A new connection brings everything retained again. From the source that is a replay, and only what is
    new of it is carried. The target may have been restarted and have forgotten what was carried: it gets
    all of it again.

    Args:
        source: where the messages are published. target: where they go.
        filters: the topics.
        edge: this edge's id, for the mark that keeps messages from going in circles.
        clock: seconds.

    Attributes:
        carried: messages that the target has taken.
        dropped: messages that were not carried: too many, too large, too old, or refused.
        opposite: the lane of the other direction. A topic may go both ways and change on both sides while
            they are apart: what waits for a bus wins over what that bus retains, or they would swap.
    """

    def __init__(
        self,
        source: Bus,
        target: Bus,
        filters: Sequence[str],
        edge: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.carried = 0
        self.dropped = 0
        self.opposite: Lane | None = None
        self._source = source
        self._target = target
        self._filters = tuple(filters)
        self._mark = (HOP, edge)
        self._clock = clock
        self._held = Held(clock)
        self._under_way: Incoming | None = None
        self._replays = Replays()
        self._target_lost = False
        self._full = False
        self._arrived = asyncio.Event()
        self._carrying: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen and carry."""
        self._carrying = asyncio.get_running_loop().create_task(self._carry())
        self._source.transport.on_state(self._on_source)
        self._target.transport.on_state(self._on_target)
        self._listen()

    def has_state(self, topic: str) -> bool:
        """Whether a retained message of this topic waits for the target or is on its way there."""
        coming = self._under_way
        return self._held.has_state(topic) or (coming is not None and coming.retain and coming.topic == topic)

    async def aclose(self) -> None:
        """Stop; what is still held is dropped."""
        self._stop_listening()
        carrying, self._carrying = self._carrying, None
        if carrying is not None:
            carrying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await carrying
        if self._held:
            log.warning("bridge_left_behind", to=self._target.name, messages=len(self._held))

    def _listen(self) -> None:
        for each in self._filters:
            self._source.transport.subscribe(each, self._on_message, qos=1, retain_as_published=True)

    def _stop_listening(self) -> None:
        for each in self._filters:
            self._source.transport.unsubscribe(each)

    def _on_source(self, connected: bool) -> None:
        if not connected:
            self._replays.lost()

    def _on_target(self, connected: bool) -> None:
        if connected and self._target_lost and self._carrying is not None:
            # A new subscription brings everything retained.
            self._replays.forget()
            self._stop_listening()
            self._listen()
        self._target_lost = not connected

    def _on_message(self, incoming: Incoming) -> None:
        if any(key == HOP for key, _ in incoming.user_properties):
            return
        if incoming.retain and self._is_old(incoming):
            return
        self._held.put(incoming)
        while self._held.over:
            self._drop_oldest()
        self._arrived.set()

    def _is_old(self, incoming: Incoming) -> bool:
        """Whether a retained message was carried before, or something newer is coming the other way."""
        if self.opposite is not None and self.opposite.has_state(incoming.topic):
            return True
        return self._replays.hear(incoming)

    def _drop_oldest(self) -> None:
        topic = self._held.pop().incoming.topic
        self._replays.forget(topic)
        self.dropped += 1
        if not self._full:  # said once; the ones that follow have the same cause
            self._full = True
            log.warning("bridge_full", to=self._target.name, topic=topic, held=len(self._held))

    async def _carry(self) -> None:
        while True:
            await self._wait_ready()
            dated = self._held.pop()
            self._under_way = dated.incoming
            await self._pass_on(dated)
            self._under_way = None

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

    async def _pass_on(self, dated: Dated) -> None:
        tries = 0
        while tries < MAX_TRIES:
            left_s = dated.left_s(self._clock())
            if left_s is not None and left_s <= 0:
                self.dropped += 1  # its sender wanted it so
                return None
            try:
                await self._publish(dated.incoming, left_s)
            except MessageTooLargeError as error:
                return self._refuse(dated.incoming, str(error))
            except LinkError as error:
                reason = str(error)
                # Only a broker that is there has had its chance.
                tries += self._target.transport.connected
                await self._target.transport.wait_connected(_WAIT_S)
            else:
                self.carried += 1
                return None
        return self._refuse(dated.incoming, reason)

    async def _publish(self, incoming: Incoming, expiry_s: int | None) -> None:
        await self._target.transport.publish(
            incoming.topic,
            incoming.payload,
            qos=1,
            retain=incoming.retain,
            expiry_s=expiry_s,
            response_topic=incoming.response_topic,
            correlation_data=incoming.correlation_data,
            user_properties=(*incoming.user_properties, self._mark),
            timeout_s=PUBLISH_TIMEOUT_S,
        )

    def _refuse(self, incoming: Incoming, reason: str) -> None:
        self._replays.forget(incoming.topic)
        self.dropped += 1
        log.warning("bridge_dropped", to=self._target.name, topic=incoming.topic, reason=reason)
