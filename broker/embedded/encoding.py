"""Packets to bytes, for MQTT 5 and 3.1.1, as broker and as client.

Source: MQTT 5 section 3; MQTT 3.1.1 section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broker.embedded import primitives as p
from broker.embedded import properties
from broker.embedded.packets import (
    MQTT_5,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    SubscriptionRequest,
    UnsubAck,
    Unsubscribe,
    Will,
)
from broker.embedded.properties import NONE, Properties
from broker.embedded.reasons import Reason, connect_code_3


def encode(packet: Packet, version: int) -> bytes:
    """One packet as bytes, in the words of `version` (`MQTT_5` or `MQTT_311`)."""
    first, write = _WRITERS[type(packet)]
    if isinstance(packet, Publish):
        first |= packet.dup << 3 | packet.qos << 1 | packet.retain
    body = write(packet, version)
    return bytes((first,)) + p.varint(len(body)) + body


def _props(props: Properties, version: int) -> bytes:
    return properties.write(props) if version == MQTT_5 else b""


def _connect(packet: Connect, _: int) -> bytes:
    will, version = packet.will, packet.version
    flags = packet.clean_start << 1 | (packet.username is not None) << 7 | (packet.password is not None) << 6
    if will is not None:
        flags |= 4 | will.qos << 3 | will.retain << 5
    head = p.text("MQTT") + bytes((version, flags)) + p.u16(packet.keep_alive_s)
    parts = [head, _props(packet.properties, version), p.text(packet.client_id), _will(will, version)]
    if packet.username is not None:
        parts.append(p.text(packet.username))
    if packet.password is not None:
        parts.append(p.binary(packet.password))
    return b"".join(parts)


def _will(will: Will | None, version: int) -> bytes:
    if will is None:
        return b""
    return _props(will.properties, version) + p.text(will.topic) + p.binary(will.payload)


def _connack(packet: ConnAck, version: int) -> bytes:
    code = packet.reason if version == MQTT_5 else connect_code_3(packet.reason)
    return bytes((packet.session_present, code)) + _props(packet.properties, version)


def _publish(packet: Publish, version: int) -> bytes:
    packet_id = p.u16(packet.packet_id) if packet.qos else b""
    return p.text(packet.topic) + packet_id + _props(packet.properties, version) + packet.payload


def _puback(packet: PubAck, version: int) -> bytes:
    return p.u16(packet.packet_id) + _reasoned(packet.reason, packet.properties, version)


def _reasoned(reason: Reason, props: Properties, version: int) -> bytes:
    if version != MQTT_5 or (reason == Reason.SUCCESS and props == NONE):
        return b""
    return bytes((reason,)) + (b"" if props == NONE else properties.write(props))


def _subscribe(packet: Subscribe, version: int) -> bytes:
    requests = b"".join(_request(request) for request in packet.requests)
    return p.u16(packet.packet_id) + _props(packet.properties, version) + requests


def _request(request: SubscriptionRequest) -> bytes:
    options = request.no_local << 2 | request.retain_as_published << 3 | request.retain_handling << 4
    return p.text(request.topic_filter) + bytes((request.qos | options,))


def _suback(packet: SubAck, version: int) -> bytes:
    codes = bytes(packet.reasons)
    if version != MQTT_5:
        codes = bytes(min(code, Reason.UNSPECIFIED_ERROR) for code in codes)
    return p.u16(packet.packet_id) + _props(packet.properties, version) + codes


def _unsubscribe(packet: Unsubscribe, version: int) -> bytes:
    filters = b"".join(p.text(each) for each in packet.topic_filters)
    return p.u16(packet.packet_id) + _props(packet.properties, version) + filters


def _unsuback(packet: UnsubAck, version: int) -> bytes:
    codes = bytes(packet.reasons) if version == MQTT_5 else b""
    return p.u16(packet.packet_id) + _props(packet.properties, version) + codes


def _disconnect(packet: Disconnect, version: int) -> bytes:
    return _reasoned(packet.reason, packet.properties, version)


def _auth(packet: Auth, version: int) -> bytes:
    return _reasoned(packet.reason, packet.properties, version)


_WRITERS: dict[type[Packet], tuple[int, Callable[[Any, int], bytes]]] = {
    Connect: (0x10, _connect),
    ConnAck: (0x20, _connack),
    Publish: (0x30, _publish),
    PubAck: (0x40, _puback),
    Subscribe: (0x82, _subscribe),
    SubAck: (0x90, _suback),
    Unsubscribe: (0xA2, _unsubscribe),
    UnsubAck: (0xB0, _unsuback),
    PingReq: (0xC0, lambda _packet, _version: b""),
    PingResp: (0xD0, lambda _packet, _version: b""),
    Disconnect: (0xE0, _disconnect),
    Auth: (0xF0, _auth),
}
