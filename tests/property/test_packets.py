"""The MQTT codec under arbitrary packets and arbitrary bytes."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.embedded import packets, properties
from broker.embedded.decoding import decode
from broker.embedded.encoding import encode
from broker.embedded.framing import Framer
from broker.embedded.packets import MQTT_5, MQTT_311, Packet
from broker.embedded.primitives import MAX_VARINT, Reader, varint
from broker.embedded.properties import On, Properties
from broker.embedded.reasons import PacketError, Reason

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
BYTES = st.binary(max_size=40)
PACKET_ID = st.integers(1, 65_535)
U32 = st.integers(0, 2**32 - 1)
U16 = st.integers(0, 65_535)
FLAG = st.integers(0, 1)

VALUES: dict[str, st.SearchStrategy[object]] = {
    "payload_format_indicator": FLAG,
    "message_expiry_interval": U32,
    "content_type": TEXT,
    "response_topic": TEXT,
    "correlation_data": BYTES,
    "session_expiry_interval": U32,
    "assigned_client_identifier": TEXT,
    "server_keep_alive": U16,
    "authentication_method": TEXT,
    "authentication_data": BYTES,
    "request_problem_information": FLAG,
    "will_delay_interval": U32,
    "request_response_information": FLAG,
    "response_information": TEXT,
    "server_reference": TEXT,
    "reason_string": TEXT,
    "receive_maximum": st.integers(1, 65_535),
    "topic_alias_maximum": U16,
    "topic_alias": U16,
    "maximum_qos": FLAG,
    "retain_available": FLAG,
    "user_property": st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
    "maximum_packet_size": st.integers(1, 2**32 - 1),
    "wildcard_subscription_available": FLAG,
    "subscription_identifier_available": FLAG,
    "shared_subscription_available": FLAG,
}


def props(where: On) -> st.SearchStrategy[Properties]:
    """Any properties that may stand in a packet of this kind."""
    allowed = {
        spec.name: VALUES[spec.name]
        for spec in properties._SPECS
        if spec.where & where and spec.name in VALUES
    }
    identifiers = st.integers(1, MAX_VARINT)
    if where is On.PUBLISH:
        allowed["subscription_identifier"] = st.lists(identifiers, max_size=3).map(tuple)
    if where is On.SUBSCRIBE:
        allowed["subscription_identifier"] = st.lists(identifiers, max_size=1).map(tuple)
    return st.fixed_dictionaries({}, optional=allowed).map(lambda values: Properties(**values))


REASONS = st.sampled_from(Reason)
WILLS = st.none() | st.builds(
    packets.Will, TEXT, BYTES, st.integers(0, 2), st.booleans(), properties=props(On.WILL)
)
CONNECTS = st.builds(
    packets.Connect,
    TEXT,
    st.just(MQTT_5),
    st.booleans(),
    U16,
    st.none() | TEXT,
    st.none() | BYTES,
    WILLS,
    props(On.CONNECT),
)
ACKNOWLEDGED = st.builds(
    packets.Publish,
    TEXT,
    BYTES,
    st.integers(1, 2),
    st.booleans(),
    st.booleans(),
    PACKET_ID,
    props(On.PUBLISH),
)
UNACKNOWLEDGED = st.builds(
    packets.Publish, TEXT, BYTES, st.just(0), st.booleans(), properties=props(On.PUBLISH)
)
REQUESTS = st.builds(
    packets.SubscriptionRequest, TEXT, st.integers(0, 2), st.booleans(), st.booleans(), st.integers(0, 2)
)


def some(
    strategy: st.SearchStrategy[typing.Any], least: int = 1
) -> st.SearchStrategy[tuple[typing.Any, ...]]:
    return st.lists(strategy, min_size=least, max_size=4).map(tuple)


PACKETS: dict[type, st.SearchStrategy[Packet]] = {
    packets.Connect: CONNECTS,
    packets.ConnAck: st.builds(packets.ConnAck, st.booleans(), REASONS, props(On.CONNACK)),
    packets.Publish: ACKNOWLEDGED | UNACKNOWLEDGED,
    packets.PubAck: st.builds(packets.PubAck, PACKET_ID, REASONS, props(On.PUBACK)),
    packets.Subscribe: st.builds(packets.Subscribe, PACKET_ID, some(REQUESTS), props(On.SUBSCRIBE)),
    packets.SubAck: st.builds(packets.SubAck, PACKET_ID, some(REASONS, 0), props(On.SUBACK)),
    packets.Unsubscribe: st.builds(packets.Unsubscribe, PACKET_ID, some(TEXT), props(On.UNSUBSCRIBE)),
    packets.UnsubAck: st.builds(packets.UnsubAck, PACKET_ID, some(REASONS, 0), props(On.UNSUBACK)),
    packets.PingReq: st.builds(packets.PingReq),
    packets.PingResp: st.builds(packets.PingResp),
    packets.Disconnect: st.builds(packets.Disconnect, REASONS, props(On.DISCONNECT)),
    packets.Auth: st.builds(packets.Auth, REASONS, props(On.AUTH)),
}
ANY_PACKET = st.one_of(*PACKETS.values())


def split(data: bytes) -> tuple[int, bytes]:
    [(first, body)] = Framer(MAX_VARINT).feed(data)
    return first, body


def refusal(first: int, body: bytes, version: int) -> PacketError | None:
    """Why a body is refused; None when it decodes. Any other exception goes through."""
    try:
        decode(first, body, version)
    except PacketError as error:
        return error
    return None


def test_every_packet_and_property_is_covered() -> None:
    """A packet or property that is added has to be added here too."""
    assert set(PACKETS) == set(typing.get_args(Packet))
    assert {field.name for field in fields(Properties)} == VALUES.keys() | {"subscription_identifier"}


@given(ANY_PACKET)
def test_a_packet_survives_the_wire(packet: Packet) -> None:
    assert decode(*split(encode(packet, MQTT_5)), MQTT_5) == packet


@given(
    st.one_of(
        st.builds(packets.Publish, TEXT, BYTES, st.integers(1, 2), st.booleans(), st.booleans(), PACKET_ID),
        st.builds(
            packets.Subscribe,
            PACKET_ID,
            some(st.builds(packets.SubscriptionRequest, TEXT, st.integers(0, 2))),
        ),
        st.builds(packets.Unsubscribe, PACKET_ID, some(TEXT)),
        st.builds(packets.PubAck, PACKET_ID),
        st.builds(packets.UnsubAck, PACKET_ID),
        st.builds(packets.Connect, TEXT, st.just(MQTT_311), st.booleans(), U16, TEXT, st.none() | BYTES),
        st.builds(packets.Disconnect),
    )
)
def test_a_packet_of_3_1_1_survives_the_wire(packet: Packet) -> None:
    assert decode(*split(encode(packet, MQTT_311)), MQTT_311) == packet


@given(st.integers(0, 255), st.binary(max_size=200), st.sampled_from([MQTT_5, MQTT_311]))
def test_arbitrary_bodies_decode_or_are_refused(first: int, body: bytes, version: int) -> None:
    """Nothing but `PacketError` ever comes out: whatever else would be the broker's own crash."""
    error = refusal(first, body, version)
    assert error is None or (error.reason >= 0x80 and str(error))


@given(ANY_PACKET, st.data())
def test_a_damaged_packet_decodes_or_is_refused(packet: Packet, data: st.DataObject) -> None:
    first, body = split(encode(packet, MQTT_5))
    at = data.draw(st.integers(0, max(0, len(body) - 1)))
    damaged = body[:at] + data.draw(st.binary(max_size=3)) + body[at + data.draw(st.integers(0, 3)) :]
    error = refusal(first, damaged, MQTT_5)
    assert error is None or error.reason >= 0x80


@given(st.lists(ANY_PACKET, max_size=5), st.data())
def test_fragmentation_makes_no_difference(sent: list[Packet], data: st.DataObject) -> None:
    stream = b"".join(encode(packet, MQTT_5) for packet in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    framer = Framer(MAX_VARINT)
    received = [
        decode(first, body, MQTT_5) for piece in _pieces(stream, cuts) for first, body in framer.feed(piece)
    ]
    assert received == sent
    assert framer.buffered_bytes == 0


def _pieces(stream: bytes, cuts: list[int]) -> Iterable[bytes]:
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        yield stream[start:end]


@given(st.binary(max_size=300), st.integers(5, 100))
def test_a_stream_of_noise_is_cut_or_refused_and_never_kept(noise: bytes, limit: int) -> None:
    """What is buffered never exceeds one packet of the largest size."""
    framer = Framer(limit)
    for byte in noise:
        try:
            bodies = [body for _, body in framer.feed(bytes((byte,)))]
        except PacketError:
            return
        assert all(len(body) <= limit for body in bodies)
        assert framer.buffered_bytes <= limit


@given(st.integers(0, MAX_VARINT))
def test_variable_byte_integers_survive_in_their_shortest_form(value: int) -> None:
    data = varint(value)
    assert Reader(data).varint() == value
    assert len(data) == 1 + sum(value >= bound for bound in (128, 16_384, 2_097_152))


@pytest.mark.parametrize("data", [b"\x80\x00", b"\xff\xff\xff\xff\x01", b"\x80"])
def test_overlong_or_unfinished_integers_are_refused(data: bytes) -> None:
    with pytest.raises(PacketError):
        Reader(data).varint()


def test_golden_bytes_of_a_publish() -> None:
    """MQTT 5 is not ours to change: these bytes are the standard's."""
    packet = packets.Publish(
        "a/b", b"hi", 1, retain=True, packet_id=10, properties=Properties(message_expiry_interval=60)
    )
    assert encode(packet, MQTT_5) == bytes.fromhex("33 0f 0003 612f62 000a 05 02 0000003c 6869")
    assert encode(packet, MQTT_311) == bytes.fromhex("33 09 0003 612f62 000a 6869")


def test_a_password_shows_in_no_repr() -> None:
    assert "hunter2" not in repr(packets.Connect("c", username="u", password=b"hunter2"))
