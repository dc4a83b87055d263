"""The packets of MQTT 5 and 3.1.1 as values; `codec` turns them into bytes and back.

Acknowledgements of QoS 2 are missing on purpose: the broker grants at most QoS 1.

Source: MQTT 5 section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from broker.embedded.properties import NONE, Properties
from broker.embedded.reasons import Reason

MQTT_311 = 4
MQTT_5 = 5


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes for a client that is lost."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = NONE


@dataclass(frozen=True, slots=True)
class Connect:
    """The first packet of a client."""

    client_id: str
    version: int = MQTT_5
    clean_start: bool = True
    keep_alive_s: int = 0
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: Properties = NONE

    def __repr__(self) -> str:
        """Without the password, so that no log can hold it."""
        return f"Connect(client_id={self.client_id!r}, version={self.version}, username={self.username!r})"


@dataclass(frozen=True, slots=True)
class ConnAck:
    """The broker's answer to CONNECT."""

    session_present: bool
    reason: Reason
    properties: Properties = NONE


@dataclass(frozen=True, slots=True)
class Publish:
    """A message on its way; `packet_id` is 0 at QoS 0."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: Properties = NONE


@dataclass(frozen=True, slots=True)
class PubAck:
    """The receiver has a QoS 1 message, or says why not."""

    packet_id: int
    reason: Reason = Reason.SUCCESS
    properties: Properties = NONE


@dataclass(frozen=True, slots=True)
class SubscriptionRequest:
    """One filter of a SUBSCRIBE with its options. Source: MQTT 5 section 3.8.3.1."""

    topic_filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A client asks for subscriptions."""

    packet_id: int
    requests: tuple[SubscriptionRequest, ...]
    properties: Properties = NONE


@dataclass(frozen=True, slots=True)
class SubAck:
    """One reason for each filter asked for, in order."""

    packet_id: int
    reasons: tuple[Reason, ...]
    properties: Properties = NONE


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """A client gives subscriptions up."""

    packet_id: int
    topic_filters: tuple[str, ...]
    properties: Properties = NONE


@dataclass(frozen=True, slots=True)
class UnsubAck:
    """One reason for each filter given up, in order; 3.1.1 sends none."""

    packet_id: int
    reasons: tuple[Reason, ...] = ()
    properties: Properties = NONE


@dataclass(frozen=True, slots=True)
class PingReq:
    """A client is alive."""


@dataclass(frozen=True, slots=True)
class PingResp:
    """So is the broker."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The last packet, from either side."""

    reason: Reason = Reason.SUCCESS
    properties: Properties = NONE


@dataclass(frozen=True, slots=True)
class Auth:
    """A turn of an extended authentication (MQTT 5 only)."""

    reason: Reason = Reason.SUCCESS
    properties: Properties = NONE


Packet: TypeAlias = (
    Connect
    | ConnAck
    | Publish
    | PubAck
    | Subscribe
    | SubAck
    | Unsubscribe
    | UnsubAck
    | PingReq
    | PingResp
    | Disconnect
    | Auth
)
