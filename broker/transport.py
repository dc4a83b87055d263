"""The port between the two sides and MQTT; `broker.mqtt` implements it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message as it arrived.

    Attributes:
        retain: it was retained before we subscribed; with `retain_as_published`: it was published to be.
        expiry_s: what was left of its time when it was sent to us; None: it does not expire.
    """

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    response_topic: str | None = None
    correlation_data: bytes | None = None
    user_properties: tuple[tuple[str, str], ...] = ()
    expiry_s: int | None = None


Handler: TypeAlias = Callable[[Incoming], None]
"""Called on the event loop, so it must be quick: whoever needs longer puts the message into a bounded queue
of its own. While it runs nothing else is read, so a slow handler slows the broker's sending, not memory."""


class Transport(Protocol):
    """A connection to a broker that comes back by itself."""

    @property
    def connected(self) -> bool:
        """Whether the broker is there and every subscription is in force."""

    def subscribe(
        self, topic_filter: str, handler: Handler, *, qos: int = 0, retain_as_published: bool = False
    ) -> None:
        """Hand matching messages to `handler`, now and after every reconnection.

        Filters of one transport should not overlap: a broker may send such a message once or twice.

        Args:
            topic_filter: may be shared (``$share/{group}/{filter}``) and hold wildcards.
            handler: takes each message; replaces an earlier handler of the same filter.
            qos: the highest QoS to receive at.
            retain_as_published: have `Incoming.retain` say whether the publisher asked for it.

        Raises:
            TopicError: the filter is not valid.
        """

    def unsubscribe(self, topic_filter: str) -> None:
        """Receive no more of this filter; one that was not subscribed is fine."""

    async def subscribed(self, topic_filter: str, timeout_s: float) -> None:
        """Wait until the broker has acknowledged a subscription on the present connection.

        Raises:
            LinkError: it has not in time (retryable), or has refused it.
        """

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        expiry_s: int | None = None,
        response_topic: str | None = None,
        correlation_data: bytes | None = None,
        user_properties: tuple[tuple[str, str], ...] = (),
        timeout_s: float,
    ) -> None:
        """Publish and wait until it is written (QoS 0) or acknowledged (QoS 1).

        Raises:
            TopicError: the topic is no topic name.
            MessageTooLargeError: the broker would close the connection over a packet of this size.
            LinkError: there is no connection, it was lost meanwhile, or the time is over. At QoS 1 the
                message may have arrived all the same.
        """

    def publish_soon(self, topic: str, payload: bytes) -> bool:
        """Publish at QoS 0 without waiting, at the least cost: written by the end of this turn of the loop.

        Returns:
            False when there is no connection, too much is waiting to be written, or the message is larger
            than the broker takes; it is then not sent.

        Raises:
            TopicError: the topic is no topic name.
        """

    def flush(self) -> None:
        """Write at once what `publish_soon` left for the end of this turn of the event loop."""

    async def probe(self, timeout_s: float) -> bool:
        """Whether the broker answers now; one that does not is taken for lost, and a new connection is tried.

        A frozen broker, or half a connection, shows in no other way for long.
        """

    def on_state(self, callback: Callable[[bool], None]) -> None:
        """Tell `callback` of every change of `connected`."""

    async def wait_connected(self, timeout_s: float) -> bool:
        """Wait for the connection; False when it is not there in time."""
