"""Bytes to packets, for MQTT 5 and 3.1.1, as broker and as client.

Source: MQTT 5 section 3; MQTT 3.1.1 section 3.
"""

from __future__ import annotations

from collections.abc import Callable

from broker.embedded import properties
from broker.embedded.packets import (
    MQTT_5,
    MQTT_311,
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
from broker.embedded.primitives import Reader
from broker.embedded.properties import NONE, On, Properties
from broker.embedded.reasons import PacketError, Reason, connect_code_3, to_reason

_PUBLISH = 3
_QOS2_TYPES = {5: "PUBREC", 6: "PUBREL", 7: "PUBCOMP"}
_FLAGS = {8: 2, 10: 2}
"""SUBSCRIBE and UNSUBSCRIBE have a fixed 0010; all but PUBLISH have 0000. Source: MQTT 5 table 2-2."""

_SUBACK_CODES_3 = frozenset((0, 1, 2, 0x80))
"""Source: MQTT 3.1.1 section 3.9.3."""


def decode(first: int, body: bytes, version: int) -> Packet:
    """Read one packet.

    Args:
        first: the first byte, type and flags.
        body: what stands behind the remaining length.
        version: `MQTT_5` or `MQTT_311`; a CONNECT names its own.

    Raises:
        PacketError: the bytes are no packet that this version allows.
    """
    kind, flags, reader = first >> 4, first & 0x0F, Reader(body)
    if kind == _PUBLISH:
        return _read_publish(flags, reader, version)
    if kind in _QOS2_TYPES:
        raise PacketError(f"{_QOS2_TYPES[kind]} belongs to QoS 2, which is not served", Reason.PROTOCOL_ERROR)
    read = _READERS.get(kind)
    if read is None or flags != _FLAGS.get(kind, 0):
        raise PacketError(f"0x{first:02X} begins no packet")
    packet = read(reader, version)
    if reader.left:
        raise PacketError("a packet is longer than its fields")
    return packet


def _props(reader: Reader, version: int, where: On) -> Properties:
    return properties.read(reader, where) if version == MQTT_5 else NONE


def _packet_id(reader: Reader) -> int:
    packet_id = reader.u16()
    if packet_id == 0:
        raise PacketError("a packet identifier may not be 0", Reason.PROTOCOL_ERROR)
    return packet_id


def _read_publish(flags: int, reader: Reader, version: int) -> Publish:
    qos = flags >> 1 & 3
    if qos == 3 or (qos == 0 and flags & 8):
        raise PacketError("a PUBLISH has QoS 3, or DUP at QoS 0")
    topic = reader.text()
    packet_id = _packet_id(reader) if qos else 0
    props = _props(reader, version, On.PUBLISH)
    return Publish(topic, reader.rest(), qos, bool(flags & 1), bool(flags & 8), packet_id, props)


def _read_connect(reader: Reader, _: int) -> Connect:
    version = _read_version(reader)
    flags, keep_alive_s = reader.u8(), reader.u16()
    if flags & 1:
        raise PacketError("the reserved flag of CONNECT is set")
    props = _props(reader, version, On.CONNECT)
    client_id = reader.text()
    will = _read_will(flags, reader, version)
    username = reader.text() if flags & 0x80 else None
    password = reader.binary() if flags & 0x40 else None
    if version == MQTT_311 and password is not None and username is None:
        raise PacketError("MQTT 3.1.1 allows a password only beside a user name")
    return Connect(client_id, version, bool(flags & 2), keep_alive_s, username, password, will, props)


def _read_version(reader: Reader) -> int:
    name, version = reader.binary(), reader.u8()
    if name == b"MQTT" and version in (MQTT_311, MQTT_5):
        return version
    if name in (b"MQTT", b"MQIsdp"):
        raise PacketError("speak MQTT 5 or 3.1.1", Reason.UNSUPPORTED_PROTOCOL_VERSION)
    raise PacketError("this is not MQTT")


def _read_will(flags: int, reader: Reader, version: int) -> Will | None:
    qos, retain = flags >> 3 & 3, bool(flags & 0x20)
    if not flags & 4:
        if qos or retain:
            raise PacketError("will flags without a will")
        return None
    if qos == 3:
        raise PacketError("a will has QoS 3")
    props = _props(reader, version, On.WILL)
    return Will(reader.text(), reader.binary(), qos, retain, props)


def _read_connack(reader: Reader, version: int) -> ConnAck:
    flags, code = reader.u8(), reader.u8()
    if flags > 1:
        raise PacketError("reserved flags of CONNACK are set")
    reason = to_reason(code) if version == MQTT_5 else _from_code_3(code)
    return ConnAck(bool(flags), reason, _props(reader, version, On.CONNACK))


def _from_code_3(code: int) -> Reason:
    for reason in Reason:
        if connect_code_3(reason) == code:
            return reason
    raise PacketError(f"{code} is no return code of MQTT 3.1.1")


def _read_puback(reader: Reader, version: int) -> PubAck:
    packet_id = _packet_id(reader)
    reason, props = _read_reasoned(reader, version, On.PUBACK)
    return PubAck(packet_id, reason, props)


def _read_reasoned(reader: Reader, version: int, where: On) -> tuple[Reason, Properties]:
    """A reason and properties, each of which may be left out when there is nothing to say."""
    if version != MQTT_5 or not reader.left:
        return Reason.SUCCESS, NONE
    reason = to_reason(reader.u8())
    return reason, properties.read(reader, where) if reader.left else NONE


def _read_subscribe(reader: Reader, version: int) -> Subscribe:
    packet_id = _packet_id(reader)
    props = _props(reader, version, On.SUBSCRIBE)
    requests = []
    while reader.left:
        requests.append(_read_request(reader, version))
    if not requests:
        raise PacketError("a SUBSCRIBE names no topic filter", Reason.PROTOCOL_ERROR)
    return Subscribe(packet_id, tuple(requests), props)


def _read_request(reader: Reader, version: int) -> SubscriptionRequest:
    topic_filter, options = reader.text(), reader.u8()
    qos, handling = options & 3, options >> 4 & 3
    if qos == 3 or handling == 3 or options & (0xC0 if version == MQTT_5 else 0xFC):
        raise PacketError("subscription options hold a reserved value")
    return SubscriptionRequest(topic_filter, qos, bool(options & 4), bool(options & 8), handling)


def _read_suback(reader: Reader, version: int) -> SubAck:
    packet_id = _packet_id(reader)
    props = _props(reader, version, On.SUBACK)
    codes = reader.rest()
    if version != MQTT_5 and not _SUBACK_CODES_3.issuperset(codes):
        raise PacketError("a SUBACK of MQTT 3.1.1 holds a code that it does not have")
    return SubAck(packet_id, tuple(map(to_reason, codes)), props)


def _read_unsubscribe(reader: Reader, version: int) -> Unsubscribe:
    packet_id = _packet_id(reader)
    props = _props(reader, version, On.UNSUBSCRIBE)
    filters = []
    while reader.left:
        filters.append(reader.text())
    if not filters:
        raise PacketError("an UNSUBSCRIBE names no topic filter", Reason.PROTOCOL_ERROR)
    return Unsubscribe(packet_id, tuple(filters), props)


def _read_unsuback(reader: Reader, version: int) -> UnsubAck:
    packet_id = _packet_id(reader)
    props = _props(reader, version, On.UNSUBACK)
    codes = reader.rest() if version == MQTT_5 else b""  # 3.1.1 has none
    return UnsubAck(packet_id, tuple(map(to_reason, codes)), props)


def _read_disconnect(reader: Reader, version: int) -> Disconnect:
    return Disconnect(*_read_reasoned(reader, version, On.DISCONNECT))


def _read_auth(reader: Reader, version: int) -> Auth:
    if version != MQTT_5:
        raise PacketError("MQTT 3.1.1 has no AUTH")
    return Auth(*_read_reasoned(reader, version, On.AUTH))


_READERS: dict[int, Callable[[Reader, int], Packet]] = {
    1: _read_connect,
    2: _read_connack,
    4: _read_puback,
    8: _read_subscribe,
    9: _read_suback,
    10: _read_unsubscribe,
    11: _read_unsuback,
    12: lambda _reader, _version: PingReq(),
    13: lambda _reader, _version: PingResp(),
    14: _read_disconnect,
    15: _read_auth,
}
