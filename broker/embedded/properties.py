"""MQTT 5 properties: one table of what exists, its type and which packets may carry it.

Source: MQTT 5 section 2.2.2, table 2-4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntFlag
from typing import Any

from broker.embedded import primitives as p
from broker.embedded.primitives import Reader
from broker.embedded.reasons import PacketError, Reason


class On(IntFlag):
    """Places where a property may stand."""

    CONNECT = 1
    WILL = 2
    CONNACK = 4
    PUBLISH = 8
    PUBACK = 16
    SUBSCRIBE = 32
    SUBACK = 64
    UNSUBSCRIBE = 128
    UNSUBACK = 256
    DISCONNECT = 512
    AUTH = 1024


_REASONED = On.CONNACK | On.PUBACK | On.SUBACK | On.UNSUBACK | On.DISCONNECT | On.AUTH
_ANYWHERE = On(2047)
_NOWHERE = On(0)


@dataclass(frozen=True, slots=True)
class Properties:
    """The properties of one packet; None (or an empty tuple) means that it was not sent."""

    payload_format_indicator: int | None = None
    message_expiry_interval: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    subscription_identifier: tuple[int, ...] = ()
    session_expiry_interval: int | None = None
    assigned_client_identifier: str | None = None
    server_keep_alive: int | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    request_problem_information: int | None = None
    will_delay_interval: int | None = None
    request_response_information: int | None = None
    response_information: str | None = None
    server_reference: str | None = None
    reason_string: str | None = None
    receive_maximum: int | None = None
    topic_alias_maximum: int | None = None
    topic_alias: int | None = None
    maximum_qos: int | None = None
    retain_available: int | None = None
    user_property: tuple[tuple[str, str], ...] = ()
    maximum_packet_size: int | None = None
    wildcard_subscription_available: int | None = None
    subscription_identifier_available: int | None = None
    shared_subscription_available: int | None = None


NONE = Properties()
"""A packet without properties: most of them."""


@dataclass(frozen=True, slots=True)
class _Kind:
    read: Callable[[Reader], Any]
    write: Callable[[Any], bytes]
    lowest: int = 0
    highest: int | None = None


def _write_pair(pair: tuple[str, str]) -> bytes:
    return p.text(pair[0]) + p.text(pair[1])


_FLAG = _Kind(Reader.u8, lambda value: bytes((value,)), highest=1)
_U16 = _Kind(Reader.u16, p.u16)
_U16_POSITIVE = _Kind(Reader.u16, p.u16, lowest=1)
_U32 = _Kind(Reader.u32, lambda value: value.to_bytes(4, "big"))
_U32_POSITIVE = _Kind(Reader.u32, _U32.write, lowest=1)
_VARINT_POSITIVE = _Kind(Reader.varint, p.varint, lowest=1)
_TEXT = _Kind(Reader.text, p.text)
_BINARY = _Kind(Reader.binary, p.binary)
_PAIR = _Kind(lambda reader: (reader.text(), reader.text()), _write_pair)


@dataclass(frozen=True, slots=True)
class _Spec:
    identifier: int
    name: str
    kind: _Kind
    where: On
    repeats: On = _NOWHERE


_SPECS = (
    _Spec(0x01, "payload_format_indicator", _FLAG, On.PUBLISH | On.WILL),
    _Spec(0x02, "message_expiry_interval", _U32, On.PUBLISH | On.WILL),
    _Spec(0x03, "content_type", _TEXT, On.PUBLISH | On.WILL),
    _Spec(0x08, "response_topic", _TEXT, On.PUBLISH | On.WILL),
    _Spec(0x09, "correlation_data", _BINARY, On.PUBLISH | On.WILL),
    _Spec(0x0B, "subscription_identifier", _VARINT_POSITIVE, On.PUBLISH | On.SUBSCRIBE, repeats=On.PUBLISH),
    _Spec(0x11, "session_expiry_interval", _U32, On.CONNECT | On.CONNACK | On.DISCONNECT),
    _Spec(0x12, "assigned_client_identifier", _TEXT, On.CONNACK),
    _Spec(0x13, "server_keep_alive", _U16, On.CONNACK),
    _Spec(0x15, "authentication_method", _TEXT, On.CONNECT | On.CONNACK | On.AUTH),
    _Spec(0x16, "authentication_data", _BINARY, On.CONNECT | On.CONNACK | On.AUTH),
    _Spec(0x17, "request_problem_information", _FLAG, On.CONNECT),
    _Spec(0x18, "will_delay_interval", _U32, On.WILL),
    _Spec(0x19, "request_response_information", _FLAG, On.CONNECT),
    _Spec(0x1A, "response_information", _TEXT, On.CONNACK),
    _Spec(0x1C, "server_reference", _TEXT, On.CONNACK | On.DISCONNECT),
    _Spec(0x1F, "reason_string", _TEXT, _REASONED),
    _Spec(0x21, "receive_maximum", _U16_POSITIVE, On.CONNECT | On.CONNACK),
    _Spec(0x22, "topic_alias_maximum", _U16, On.CONNECT | On.CONNACK),
    _Spec(0x23, "topic_alias", _U16, On.PUBLISH),
    _Spec(0x24, "maximum_qos", _FLAG, On.CONNACK),
    _Spec(0x25, "retain_available", _FLAG, On.CONNACK),
    _Spec(0x26, "user_property", _PAIR, _ANYWHERE, repeats=_ANYWHERE),
    _Spec(0x27, "maximum_packet_size", _U32_POSITIVE, On.CONNECT | On.CONNACK),
    _Spec(0x28, "wildcard_subscription_available", _FLAG, On.CONNACK),
    _Spec(0x29, "subscription_identifier_available", _FLAG, On.CONNACK),
    _Spec(0x2A, "shared_subscription_available", _FLAG, On.CONNACK),
)
_KNOWN = frozenset(spec.identifier for spec in _SPECS)
_ALLOWED = {place: {spec.identifier: spec for spec in _SPECS if spec.where & place} for place in On}
_REPEATING = {place: frozenset(spec.name for spec in _SPECS if spec.repeats & place) for place in On}
_TUPLES = frozenset(field.name for field in fields(Properties) if field.default == ())


def read(reader: Reader, where: On) -> Properties:
    """Read a property length and the properties behind it.

    Raises:
        PacketError: malformed, sent twice, out of range or not allowed in this packet.
    """
    length = reader.varint()
    if length == 0:
        return NONE
    inner = Reader(reader.take(length))
    values: dict[str, Any] = {}
    allowed, repeating = _ALLOWED[where], _REPEATING[where]
    while inner.left:
        spec = allowed.get(identifier := inner.varint())
        if spec is None:
            raise _refusal(identifier, where)
        if spec.name in values and spec.name not in repeating:
            raise PacketError(f"{spec.name} was sent twice", Reason.PROTOCOL_ERROR)
        value = _checked(spec, spec.kind.read(inner))
        if spec.name in _TUPLES:
            values.setdefault(spec.name, []).append(value)  # a packet may hold two hundred thousand
        else:
            values[spec.name] = value
    values.update({name: tuple(values[name]) for name in _TUPLES & values.keys()})
    return Properties(**values)


def write(properties: Properties) -> bytes:
    """The property length and the properties behind it."""
    body = write_bare(properties)
    return p.varint(len(body)) + body


def write_bare(properties: Properties) -> bytes:
    """The properties without their length, so that a sender can add its own."""
    if properties is NONE:
        return b""
    parts: list[bytes] = []
    for spec in _SPECS:
        value = getattr(properties, spec.name)
        if value is None or value == ():
            continue
        identifier = bytes((spec.identifier,))
        for each in value if spec.name in _TUPLES else (value,):
            parts += (identifier, spec.kind.write(each))
    return b"".join(parts)


def _refusal(identifier: int, where: On) -> PacketError:
    if identifier in _KNOWN:
        return PacketError(f"property 0x{identifier:02X} is not allowed in {where.name}")
    return PacketError(f"0x{identifier:02X} is no property")


def _checked(spec: _Spec, value: Any) -> Any:
    kind = spec.kind
    if isinstance(value, int) and (
        value < kind.lowest or (kind.highest is not None and value > kind.highest)
    ):
        raise PacketError(f"{spec.name} may not be {value}", Reason.PROTOCOL_ERROR)
    return value
