"""A message inside the broker, and the PUBLISH packets it becomes for each receiver."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from broker.embedded import primitives as p
from broker.embedded import properties
from broker.embedded.packets import MQTT_5, Publish, Will
from broker.embedded.properties import NONE, Properties

_SUBSCRIPTION_IDENTIFIER = b"\x0b"
_MESSAGE_EXPIRY = b"\x02"

_OBJECTS_BYTES = 256
"""A message without its topic, properties and payload; measured with tracemalloc, rounded up."""


class Message:
    """One published message; shared by every queue it waits in.

    What all receivers get alike (topic and properties as bytes) is encoded once.

    Attributes:
        sender: client id of the publisher, for the "no local" option.
        expires_at_s: clock time after which nobody wants it; None means never.
        holders: deliveries that sessions keep of it; `Budget` counts them.
    """

    __slots__ = (
        "_properties",
        "_topic_field",
        "expires_at_s",
        "holders",
        "payload",
        "qos",
        "retain",
        "sender",
        "topic",
    )

    def __init__(self, topic: str, payload: bytes, qos: int, retain: bool, sender: str) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.sender = sender
        self.expires_at_s: float | None = None
        self.holders = 0
        self._topic_field = p.text(topic)
        self._properties = b""

    @classmethod
    def of(cls, packet: Publish | Will, sender: str, now: float, *, topic: str | None = None) -> Message:
        """The message a client published (or left as its will); `topic` replaces an aliased one."""
        message = cls(
            packet.topic if topic is None else topic, packet.payload, packet.qos, packet.retain, sender
        )
        message._take_properties(packet.properties, now)
        return message

    @property
    def size_bytes(self) -> int:
        """The memory that it takes, about; properties count too, or they would be a way round every bound."""
        return _OBJECTS_BYTES + 2 * len(self._topic_field) + len(self._properties) + len(self.payload)

    def expired(self, now: float) -> bool:
        """Whether its expiry passed before delivery began. Source: MQTT 5 [MQTT-3.3.2-5]."""
        return self.expires_at_s is not None and self.expires_at_s < now

    def packet(
        self,
        version: int,
        now: float,
        *,
        qos: int,
        retain: bool,
        dup: bool = False,
        packet_id: int = 0,
        subscription_ids: tuple[int, ...] = (),
    ) -> bytes:
        """The PUBLISH for one receiver, with the expiry that is left.

        Source: MQTT 5 section 3.3; [MQTT-3.3.2-6] for the remaining expiry.
        """
        first = 0x30 | dup << 3 | qos << 1 | retain
        identifier = p.u16(packet_id) if qos else b""
        props = self._properties_for(now, subscription_ids) if version == MQTT_5 else b""
        size = len(self._topic_field) + len(identifier) + len(props) + len(self.payload)
        return b"".join((bytes((first,)), p.varint(size), self._topic_field, identifier, props, self.payload))

    def _properties_for(self, now: float, subscription_ids: tuple[int, ...]) -> bytes:
        body = self._properties
        if self.expires_at_s is not None:
            body += _MESSAGE_EXPIRY + max(1, ceil(self.expires_at_s - now)).to_bytes(4, "big")
        for identifier in subscription_ids:
            body += _SUBSCRIPTION_IDENTIFIER + p.varint(identifier)
        return p.varint(len(body)) + body

    def _take_properties(self, props: Properties, now: float) -> None:
        if props is NONE:
            return
        if props.message_expiry_interval is not None:
            self.expires_at_s = now + props.message_expiry_interval
        between_hops = replace(
            props, topic_alias=None, message_expiry_interval=None, will_delay_interval=None
        )
        self._properties = properties.write_bare(between_hops)
