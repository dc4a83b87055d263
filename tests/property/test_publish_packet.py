"""The quick way of plain QoS 0 messages writes and reads what the whole codec does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.embedded.decoding import decode
from broker.embedded.encoding import encode
from broker.embedded.framing import Framer
from broker.embedded.packets import MQTT_5, Publish
from broker.embedded.primitives import MAX_VARINT
from broker.embedded.properties import Properties
from broker.publish_packet import publish_packet, read_publish
from broker.transport import Incoming
from shared.errors import TopicError

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="+#\0"), min_size=1, max_size=300)


@given(names, st.binary(max_size=300))
def test_a_packet_is_the_codec_s_own(topic: str, payload: bytes):
    assert publish_packet(topic, payload) == encode(Publish(topic, payload, 0), MQTT_5)


@given(names, st.binary(max_size=300), st.booleans())
def test_a_plain_packet_is_read_as_the_codec_reads_it(topic: str, payload: bytes, retain: bool):
    ((first, body),) = Framer(MAX_VARINT).feed(encode(Publish(topic, payload, 0, retain), MQTT_5))
    assert read_publish(first, body) == Incoming(topic, payload, 0, retain)


@pytest.mark.parametrize(
    "packet",
    [
        Publish("t", b"", 1, packet_id=7),
        Publish("t", b"", 0, properties=Properties(message_expiry_interval=3)),
        Publish("", b"", 0, properties=Properties(topic_alias=1)),
    ],
    ids=["QoS 1", "properties", "alias"],
)
def test_whatever_is_not_plain_is_left_to_the_whole_codec(packet: Publish):
    ((first, body),) = Framer(MAX_VARINT).feed(encode(packet, MQTT_5))
    assert read_publish(first, body) is None


@given(st.integers(0, 255), st.binary(max_size=40))
def test_random_bytes_are_read_as_the_codec_reads_them_or_left_to_it(first: int, body: bytes):
    incoming = read_publish(first, body)
    if incoming is None:
        return
    if "\0" in incoming.topic:
        return  # not looked for: no filter of ours matches it
    packet = decode(first, body, MQTT_5)
    assert isinstance(packet, Publish)
    assert incoming == Incoming(packet.topic, packet.payload, 0, packet.retain)


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0b", "t" * 65_536])
def test_a_name_that_is_none_is_refused(topic: str):
    with pytest.raises(TopicError):
        publish_packet(topic, b"")
