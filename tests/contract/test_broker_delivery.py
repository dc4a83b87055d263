"""What every broker owes a publisher and a subscriber; run against ours and against Mosquitto.

Source: MQTT 5 sections 3.3, 3.8, 4.3, 4.7.
"""

from __future__ import annotations

import subprocess

import pytest

from broker.embedded.encoding import encode
from broker.embedded.packets import MQTT_5, Publish
from tests.mqtt_clients import V5, V311, Client, RawClient, publish_properties
from tests.servers import ServerProcess, find_binary

VERSIONS = pytest.mark.parametrize("version", [V5, V311], ids=["mqtt5", "mqtt311"])


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1])
def test_a_message_reaches_its_subscriber(
    broker_endpoint: ServerProcess, topic: str, version: int, qos: int
) -> None:
    with (
        Client(broker_endpoint, version=version) as receiver,
        Client(broker_endpoint, version=version) as sender,
    ):
        assert receiver.subscribe(topic, qos=qos) == [qos]
        sender.publish(topic, b"hello", qos)
        message = receiver.next()
    assert (message.topic, message.payload, message.qos, message.retain) == (topic, b"hello", qos, False)


@VERSIONS
def test_a_burst_arrives_complete_and_in_order(
    broker_endpoint: ServerProcess, topic: str, version: int
) -> None:
    sent = [str(number).encode() for number in range(500)]
    with Client(broker_endpoint, version=version) as receiver, Client(broker_endpoint) as sender:
        receiver.subscribe(topic, qos=1)
        for payload in sent[:-1]:
            sender.paho.publish(topic, payload, 1)
        sender.publish(topic, sent[-1], 1)
        assert receiver.payloads(len(sent)) == sent


def test_qos_is_the_lower_of_publication_and_subscription(broker_endpoint: ServerProcess, topic: str) -> None:
    with Client(broker_endpoint) as receiver, Client(broker_endpoint) as sender:
        receiver.subscribe(topic + "/low", qos=0)
        receiver.subscribe(topic + "/high", qos=1)
        sender.publish(topic + "/low", b"", 1)
        sender.publish(topic + "/high", b"", 0)
        assert [receiver.next().qos, receiver.next().qos] == [0, 0]


@pytest.mark.parametrize(
    ("topic_filter", "matching", "other"),
    [
        ("+/b", "a/b", "a/b/c"),
        ("a/#", "a", "b"),
        ("a/#", "a/b/c", "ab"),
        ("a/+/c", "a//c", "a/c"),
        ("+/+", "/x", "x"),
    ],
)
def test_wildcards_match_levels(
    broker_endpoint: ServerProcess, topic: str, topic_filter: str, matching: str, other: str
) -> None:
    with Client(broker_endpoint) as client:
        client.subscribe(f"{topic}/{topic_filter}", qos=1)
        client.publish(f"{topic}/{other}", b"other", 1)
        client.publish(f"{topic}/{matching}", b"matching", 1)
        assert client.next().payload == b"matching"


def test_properties_pass_through(broker_endpoint: ServerProcess, topic: str) -> None:
    """Response topic, correlation data, user properties, content type, payload format."""
    with Client(broker_endpoint) as receiver, Client(broker_endpoint) as sender:
        receiver.subscribe(topic)
        sender.publish(
            topic,
            b"{}",
            ResponseTopic="reply/here",
            CorrelationData=b"\x00\x01",
            UserProperty=[("key", "one"), ("key", "two")],
            ContentType="application/json",
            PayloadFormatIndicator=1,
        )
        props = receiver.next().properties
    assert props.ResponseTopic == "reply/here"
    assert props.CorrelationData == b"\x00\x01"
    assert props.UserProperty == [("key", "one"), ("key", "two")]
    assert props.ContentType == "application/json"
    assert props.PayloadFormatIndicator == 1


def test_a_3_1_1_subscriber_gets_a_message_that_has_properties(
    broker_endpoint: ServerProcess, topic: str
) -> None:
    with Client(broker_endpoint, version=V311) as receiver, Client(broker_endpoint) as sender:
        receiver.subscribe(topic)
        sender.publish(topic, b"hello", ResponseTopic="reply/here")
        assert receiver.next().payload == b"hello"


def test_a_publisher_learns_that_nobody_listens(broker_endpoint: ServerProcess, topic: str) -> None:
    """Source: MQTT 5 section 3.4.2.1, reason 0x10."""
    with Client(broker_endpoint) as client:
        assert client.publish(topic, b"", 1) == 0x10
        client.subscribe(topic)
        assert client.publish(topic, b"", 1) == 0


@VERSIONS
def test_after_unsubscribing_nothing_comes(broker_endpoint: ServerProcess, topic: str, version: int) -> None:
    with Client(broker_endpoint, version=version) as client:
        client.subscribe(topic)
        client.unsubscribe(topic)
        client.publish(topic, b"", 1)
        assert client.silent()


def test_unsubscribing_from_what_was_not_subscribed_is_told(
    broker_endpoint: ServerProcess, topic: str
) -> None:
    with Client(broker_endpoint) as client:
        client.subscribe(topic)
        assert client.unsubscribe(topic, topic + "/other") == [0, 0x11]


def test_no_local_keeps_own_messages_away(broker_endpoint: ServerProcess, topic: str) -> None:
    with Client(broker_endpoint) as client, Client(broker_endpoint) as other:
        client.subscribe(topic, qos=1, no_local=True)
        client.publish(topic, b"own", 1)
        other.publish(topic, b"other's", 1)
        assert client.next().payload == b"other's"


def test_subscription_identifiers_come_with_the_message(broker_endpoint: ServerProcess, topic: str) -> None:
    with Client(broker_endpoint) as client:
        client.subscribe(topic, identifier=268_435_455)
        client.publish(topic, b"")
        assert client.next().properties.SubscriptionIdentifier == [268_435_455]


def test_overlapping_filters_name_all_their_identifiers(broker_endpoint: ServerProcess, topic: str) -> None:
    """One copy with both, or one copy for each: MQTT 5 section 3.3.4 allows either."""
    with Client(broker_endpoint) as client:
        client.subscribe(topic + "/+", identifier=1)
        client.subscribe(topic + "/#", identifier=2)
        client.publish(topic + "/x", b"")
        found: list[int] = []
        while len(found) < 2:
            found += client.next().properties.SubscriptionIdentifier
    assert sorted(found) == [1, 2]


def test_an_empty_payload_is_a_message(broker_endpoint: ServerProcess, topic: str) -> None:
    with Client(broker_endpoint) as client:
        client.subscribe(topic)
        client.publish(topic, b"")
        assert client.next().payload == b""


@pytest.mark.parametrize("size", [127, 128, 16_383, 16_384, 200_000])
def test_payloads_of_every_length_field_arrive_whole(
    broker_endpoint: ServerProcess, topic: str, size: int
) -> None:
    payload = bytes(number % 251 for number in range(size))
    with Client(broker_endpoint) as client:
        client.subscribe(topic, qos=1)
        client.publish(topic, payload, 1)
        assert client.next().payload == payload


def test_a_client_with_its_own_topic_aliases_is_understood(
    broker_endpoint: ServerProcess, topic: str
) -> None:
    """Source: MQTT 5 section 3.3.2.3.4."""
    with Client(broker_endpoint) as receiver, Client(broker_endpoint) as sender:
        assert sender.connack_properties.TopicAliasMaximum > 0
        receiver.subscribe(topic, qos=1)
        sender.publish(topic, b"named", 1, TopicAlias=1)
        sender.paho.publish("", b"aliased", 1, properties=publish_properties(TopicAlias=1))
        assert receiver.payloads(2) == [b"named", b"aliased"]


def test_a_receiver_with_receive_maximum_gets_no_more_at_once(
    broker_endpoint: ServerProcess, topic: str
) -> None:
    """Source: MQTT 5 [MQTT-3.3.4-9]."""
    properties = {"ReceiveMaximum": 2}
    receiver = Client(broker_endpoint, connect_properties=properties, manual_ack=True)
    with receiver, Client(broker_endpoint) as sender:
        receiver.subscribe(topic, qos=1)
        for number in range(4):
            sender.publish(topic, str(number).encode(), 1)
        first, second = receiver.next(), receiver.next()
        assert receiver.silent()
        receiver.paho.ack(first.mid, 1)
        assert receiver.next().payload == b"2"
        receiver.paho.ack(second.mid, 1)
        assert receiver.next().payload == b"3"


def test_a_receiver_is_spared_packets_over_its_maximum(broker_endpoint: ServerProcess, topic: str) -> None:
    """Source: MQTT 5 [MQTT-3.1.2-24], [MQTT-3.1.2-25]."""
    receiver = Client(broker_endpoint, connect_properties={"MaximumPacketSize": 200})
    with receiver, Client(broker_endpoint) as sender:
        receiver.subscribe(topic, qos=1)
        sender.publish(topic, b"x" * 1000, 1)
        sender.publish(topic, b"small", 1)
        assert receiver.next().payload == b"small"


def test_qos_2_subscriptions_are_granted_what_is_served(embedded_server: ServerProcess, topic: str) -> None:
    """Ours serves QoS 1 at most and says so; Mosquitto would grant 2."""
    with Client(embedded_server) as newer, Client(embedded_server, version=V311) as older:
        assert newer.connack_properties.MaximumQoS == 1
        assert newer.subscribe(topic, qos=2) == [1]
        assert older.subscribe(topic, qos=2) == [1]


@VERSIONS
def test_the_tools_of_mosquitto_speak_to_every_broker(
    broker_endpoint: ServerProcess, topic: str, version: int
) -> None:
    for tool in ("mosquitto_pub", "mosquitto_sub"):
        if find_binary(tool) is None:
            pytest.skip(f"{tool} is not installed (apt-get install mosquitto-clients)")
    place = ["-h", broker_endpoint.host, "-p", str(broker_endpoint.port), "-t", topic]
    place += ["-V", "5" if version == V5 else "311", "-q", "1"]
    with Client(broker_endpoint) as client:
        client.publish(topic, b"kept", 1, retain=True)
        subscriber = subprocess.run(
            [find_binary("mosquitto_sub") or "", *place, "-C", "1", "-W", "5"],
            capture_output=True,
            check=True,
        )
        assert subscriber.stdout == b"kept\n"
        client.subscribe(topic, qos=1, retain_handling=2)
        subprocess.run([find_binary("mosquitto_pub") or "", *place, "-m", "from the tool"], check=True)
        assert client.next().payload == b"from the tool"


def test_a_packet_may_come_byte_by_byte(broker_endpoint: ServerProcess, topic: str) -> None:
    with Client(broker_endpoint) as receiver, RawClient(broker_endpoint) as sender:
        sender.connect()
        receiver.subscribe(topic)
        for byte in encode(Publish(topic, b"slowly"), MQTT_5):
            sender.send_bytes(bytes((byte,)))
        assert receiver.next().payload == b"slowly"
