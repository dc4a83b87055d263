"""The embedded broker: its framing, each packet's parser, properties, and whole connections."""

from __future__ import annotations

from functools import partial

from broker.embedded import packets, properties
from broker.embedded.connection import Connection
from broker.embedded.core import BrokerCore
from broker.embedded.decoding import decode
from broker.embedded.encoding import encode
from broker.embedded.framing import Framer
from broker.embedded.packets import MQTT_5, MQTT_311, Packet, Publish, Subscribe, SubscriptionRequest, Will
from broker.embedded.primitives import MAX_VARINT, Reader
from broker.embedded.properties import On, Properties
from broker.embedded.reasons import PacketError, Reason
from broker.embedded.settings import BrokerSettings
from tests.fuzz.target import Target, same

LIMIT = 4096
PLACES = list(On)
FULL = Properties(user_property=(("a", "b"), ("a", "é")))
ANSWERED = Properties(message_expiry_interval=60, response_topic="r/1", correlation_data=b"c")
WILL = Will("w/1", b"gone", 1, True, Properties(will_delay_interval=3))
TWO = (SubscriptionRequest("a/+", 1), SubscriptionRequest("$share/g/b/#", 1, retain_handling=2))
EXAMPLES: dict[str, list[Packet]] = {
    "connect": [
        packets.Connect("c", MQTT_5, False, 10, "u", b"p", WILL, Properties(session_expiry_interval=60)),
        packets.Connect("c", MQTT_311, True, 0, "u", None, Will("w", b"")),
    ],
    "connack": [packets.ConnAck(True, Reason.SUCCESS, Properties(maximum_qos=1, receive_maximum=9))],
    "publish": [
        Publish("a/b", b"hi", 1, True, False, 10, ANSWERED),
        Publish("", b"", properties=Properties(topic_alias=1)),
    ],
    "puback": [packets.PubAck(1), packets.PubAck(2, Reason.QUOTA_EXCEEDED, FULL)],
    "subscribe": [Subscribe(1, TWO, Properties(subscription_identifier=(7,))), Subscribe(2, TWO[:1])],
    "suback": [packets.SubAck(1, (Reason.SUCCESS, Reason.NOT_AUTHORIZED), FULL)],
    "unsubscribe": [packets.Unsubscribe(1, ("a/+", "b"), FULL)],
    "unsuback": [packets.UnsubAck(1, (Reason.SUCCESS, Reason.NO_SUBSCRIPTION_EXISTED))],
    "disconnect": [packets.Disconnect(Reason.DISCONNECT_WITH_WILL, Properties(session_expiry_interval=5))],
    "auth": [packets.Auth(Reason.CONTINUE_AUTHENTICATION, Properties(authentication_method="m"))],
}
KINDS = {"connect": 1, "connack": 2, "publish": 3, "puback": 4, "subscribe": 8, "suback": 9}
KINDS |= {"unsubscribe": 10, "unsuback": 11, "disconnect": 14, "auth": 15}


def _split(frame: bytes) -> tuple[int, bytes]:
    [(first, body)] = Framer(MAX_VARINT).feed(frame)
    return first, body


def packet(kind: int, data: bytes) -> None:
    """One parser. Input: flags of the first byte (the top bit asks for MQTT 3.1.1), then the body."""
    head = data[:1] or b"\0"
    version = MQTT_311 if head[0] & 0x80 else MQTT_5
    read = decode(kind << 4 | head[0] & 0x0F, data[1:], version)
    same(lambda: decode(*_split(encode(read, version)), version), read)


def _packets(name: str) -> list[bytes]:
    found = []
    for example in EXAMPLES[name]:
        for version, mark in ((MQTT_5, 0), (MQTT_311, 0x80)):
            first, body = _split(encode(example, version))
            found.append(bytes((first & 0x0F | mark,)) + body)
    return found


def property_list(data: bytes) -> None:
    """Input: where the properties stand, then their length and they themselves."""
    where = PLACES[(data[:1] or b"\0")[0] % len(PLACES)]
    read = properties.read(Reader(data[1:]), where)
    same(lambda: properties.read(Reader(properties.write(read)), where), read)


def _property_lists() -> list[bytes]:
    lists = [(On.PUBLISH, ANSWERED), (On.CONNECT, Properties(receive_maximum=1)), (On.SUBACK, FULL)]
    overlong = bytes((PLACES.index(On.PUBLISH), 2, 0x8B, 0x00))
    return [*(bytes((PLACES.index(where),)) + properties.write(props) for where, props in lists), overlong]


def framing(data: bytes) -> None:
    """The same packets come out of a stream however it is cut, and no more is kept than one may have.

    Input: size of the pieces, then the stream.
    """
    size, stream = 1 + (data[:1] or b"\0")[0], data[1:]
    whole = _frames([stream])
    same(lambda: _frames(_pieces(stream, size)), whole)
    if whole[-1:] == [None]:
        raise PacketError("the stream breaks off")


def _frames(pieces: list[bytes]) -> list[tuple[int, bytes] | None]:
    """The packets in a stream; None at its end when it can't be read on."""
    framer, found = Framer(LIMIT), list[tuple[int, bytes] | None]()
    try:
        for piece in pieces:
            found.extend(framer.feed(piece))
            if framer.buffered_bytes > LIMIT:
                raise AssertionError(f"{framer.buffered_bytes} bytes are kept")
    except PacketError:
        found.append(None)
    return found


def _streams() -> list[bytes]:
    stream = b"".join(encode(each, MQTT_5) for examples in EXAMPLES.values() for each in examples)
    return [b"\x03" + stream, b"\x00" + b"\x30\xff\xff\xff\xff\x01", b"\x00" + b"\x30\xff\xff\xff\x7f"]


def connection(data: bytes) -> None:
    """A broker and a hostile client: the broker only ever writes packets, and is empty when all are gone.

    Input: a byte of choices (see `_begun`), then what the client sends.
    """
    choices, now = (data[:1] or b"\0")[0], 1000.0
    core = BrokerCore(BrokerSettings(max_packet_bytes=LIMIT, max_queued_messages=16), lambda: now)
    watcher, client = Connection(core), Connection(core)
    watcher.receive(encode(packets.Connect("watcher", MQTT_5), MQTT_5))
    watcher.receive(encode(Subscribe(1, (SubscriptionRequest("#", 1),)), MQTT_5))
    version = _begun(client, choices)
    for piece in _pieces(data[1:], 1 + (choices >> 2) * 8):
        if client.closing:
            break
        client.receive(piece)
    if client.session is not None or version is None:
        version = client.version
    _check_packets(client.take_output(), version or MQTT_5)
    _check_packets(watcher.take_output(), MQTT_5)
    for each in (client, watcher):
        each.lost()
    core.timers.run(now + 10 * core.settings.max_session_expiry_s)
    if len(core.registry) or core.connections:
        raise AssertionError(f"{len(core.registry)} sessions and {len(core.connections)} connections stay")
    if core.counters.protocol_errors:
        raise PacketError("the client broke the protocol")


def _begun(client: Connection, choices: int) -> int | None:
    """Let the client in as MQTT 5 or 3.1.1 (choices 1, 2), or leave the whole handshake to the input."""
    version = {1: MQTT_5, 2: MQTT_311}.get(choices & 3)
    if version is not None:
        client.receive(encode(packets.Connect("c", version, will=WILL), version))
    return version


def _pieces(stream: bytes, size: int) -> list[bytes]:
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def _check_packets(output: bytes, version: int) -> None:
    framer = Framer(MAX_VARINT)
    try:
        for first, body in framer.feed(output):
            decode(first, body, version)
    except PacketError as error:
        raise AssertionError(f"the broker wrote what is no packet: {error}") from error
    if framer.buffered_bytes:
        raise AssertionError("the broker wrote half a packet")


def _connections() -> list[bytes]:
    told = [*EXAMPLES["subscribe"], *EXAMPLES["publish"], packets.PingReq(), *EXAMPLES["unsubscribe"]]
    own = Publish("a/b", b"to itself", 1, False, False, 11, Properties(topic_alias=1))
    told += [own, packets.PubAck(1), *EXAMPLES["disconnect"]]
    five, three = (b"".join(encode(each, version) for each in told) for version in (MQTT_5, MQTT_311))
    small = packets.Connect("c", MQTT_5, properties=Properties(maximum_packet_size=1))
    whole = [b"\xfc" + b"".join(encode(each, each.version) for each in EXAMPLES["connect"][:1]) + five]
    whole += [b"\xfc" + encode(small, MQTT_5) + five]
    return [b"\xfd" + five, b"\x01" + five, b"\xfe" + three, *whole, b"\x00GET / HTTP/1.1\r\n\r\n"]


TARGETS = [
    Target("mqtt.framing", framing, _streams),
    *(Target(f"mqtt.{name}", partial(packet, kind), partial(_packets, name)) for name, kind in KINDS.items()),
    Target("mqtt.properties", property_list, _property_lists),
    Target("mqtt.connection", connection, _connections, max_bytes=384, share=0.1),
]
