"""What a broker does with clients that break the protocol, ask for too much or do not read.

Source: MQTT 5 section 4.13 (errors) and 5.4 (security); the limits are `BrokerSettings`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.embedded import packets
from broker.embedded.encoding import encode
from broker.embedded.packets import MQTT_5, MQTT_311, Publish, Subscribe, SubscriptionRequest
from broker.embedded.properties import Properties
from broker.embedded.reasons import Reason
from tests.conftest import make_broker
from tests.mqtt_clients import V5, V311, Client, RawClient
from tests.servers import EmbeddedServer, ServerProcess
from tests.waiting import wait_until

StartBroker = Callable[..., ServerProcess]


@pytest.fixture
def start_embedded(tmp_path: Path) -> Iterator[StartBroker]:
    """Starts an embedded broker with limits of the test's own."""
    servers: list[ServerProcess] = []

    def start(**settings: object) -> ServerProcess:
        servers.append(make_broker("embedded", tmp_path / str(len(servers)), settings).start())
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__()


@pytest.fixture(scope="module")
def strict_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """An embedded broker for what Mosquitto answers in other words."""
    with EmbeddedServer(tmp_path_factory.mktemp("strict")) as server:
        yield server


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x10\x0f\x00\x04MQTX\x05\x02\x00\x00\x00\x00\x02ab",
        b"\x10\xff\xff\xff\xff\x01",
        b"\x00\x00",
        b"\xf0\x00",
        encode(Publish("a", b""), MQTT_5),
        b"\x10\x05\x00\x04MQ",
    ],
)
def test_what_is_no_mqtt_is_closed_and_others_go_on(
    broker_endpoint: ServerProcess, topic: str, data: bytes
) -> None:
    with Client(broker_endpoint) as other, RawClient(broker_endpoint) as client:
        client.send_bytes(data + b"\x00" * 20)
        client.closed()
        other.subscribe(topic)
        other.publish(topic, b"still here")
        assert other.next().payload == b"still here"


def test_an_unknown_version_is_told_so(broker_endpoint: ServerProcess) -> None:
    """A client of MQTT 6 gets a refusal, or is closed."""
    with RawClient(broker_endpoint, MQTT_311) as client:
        client.send_bytes(b"\x10\x0e\x00\x04MQTT\x06\x02\x00\x3c\x00\x02ab")
        assert client.closed() is None


VIOLATIONS = {
    "reserved flags": (b"\x83\x05\x00\x01\x00\x00\x00", Reason.MALFORMED_PACKET),
    "qos 3": (b"\x36\x04\x00\x01a\x00", Reason.MALFORMED_PACKET),
    "a second CONNECT": (encode(packets.Connect("x"), MQTT_5), Reason.PROTOCOL_ERROR),
    "a CONNACK": (encode(packets.ConnAck(False, Reason.SUCCESS), MQTT_5), Reason.PROTOCOL_ERROR),
    "no filter": (b"\x82\x03\x00\x01\x00", Reason.PROTOCOL_ERROR),
    "packet id 0": (b"\x82\x07\x00\x00\x00\x00\x01a\x00", Reason.PROTOCOL_ERROR),
    "a wildcard in a topic": (encode(Publish("a/#", b""), MQTT_5), Reason.TOPIC_NAME_INVALID),
    "a topic of NUL": (b"\x30\x04\x00\x01\x00\x00", Reason.MALFORMED_PACKET),
    "broken UTF-8": (b"\x30\x05\x00\x02\xc3\x28\x00", Reason.MALFORMED_PACKET),
    "QoS 2": (encode(Publish("a", b"", 2, packet_id=1), MQTT_5), Reason.QOS_NOT_SUPPORTED),
    "an unknown alias": (
        encode(Publish("", b"", properties=Properties(topic_alias=3)), MQTT_5),
        Reason.PROTOCOL_ERROR,
    ),
    "alias 0": (
        encode(Publish("a", b"", properties=Properties(topic_alias=0)), MQTT_5),
        Reason.TOPIC_ALIAS_INVALID,
    ),
    "too high an alias": (
        encode(Publish("a", b"", properties=Properties(topic_alias=60_000)), MQTT_5),
        Reason.TOPIC_ALIAS_INVALID,
    ),
    "a subscription id of a client": (
        encode(Publish("a", b"", properties=Properties(subscription_identifier=(1,))), MQTT_5),
        Reason.PROTOCOL_ERROR,
    ),
    "a property twice": (
        b"\x30\x0e\x00\x01a\x0a" + b"\x02\x00\x00\x00\x01" * 2,
        Reason.PROTOCOL_ERROR,
    ),
    "a property out of place": (b"\x30\x06\x00\x01a\x02\x24\x01", Reason.MALFORMED_PACKET),
    "a wildcard in a response topic": (
        encode(Publish("a", b"", properties=Properties(response_topic="b/+")), MQTT_5),
        Reason.PROTOCOL_ERROR,
    ),
    "AUTH out of turn": (encode(packets.Auth(Reason.REAUTHENTICATE), MQTT_5), Reason.PROTOCOL_ERROR),
    "a packet over the maximum": (b"\x30\xff\xff\xff\x7f", Reason.PACKET_TOO_LARGE),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_is_named_and_closes_the_connection(strict_server: ServerProcess, name: str) -> None:
    """The right reason of MQTT 5 section 3.14.2.1; ours only, as Mosquitto often just closes."""
    data, reason = VIOLATIONS[name]
    with RawClient(strict_server) as client:
        client.connect()
        client.send_bytes(data)
        goodbye = client.closed()
    assert goodbye is not None
    assert goodbye.reason is reason
    assert goodbye.properties.reason_string


def test_reasons_in_words_are_left_out_on_request(strict_server: ServerProcess) -> None:
    """Source: MQTT 5 section 3.1.2.11.7. DISCONNECT may carry them all the same; we don't."""
    with RawClient(strict_server) as client:
        client.connect(properties=Properties(request_problem_information=0))
        client.send_bytes(VIOLATIONS["QoS 2"][0])
        goodbye = client.closed()
    assert goodbye is not None
    assert goodbye.properties.reason_string is None


def test_a_3_1_1_client_that_publishes_at_qos_2_is_closed(strict_server: ServerProcess) -> None:
    with RawClient(strict_server, MQTT_311) as client:
        client.connect()
        client.send(Publish("a", b"", 2, packet_id=1))
        assert client.closed() is None


def test_extended_authentication_is_refused(strict_server: ServerProcess) -> None:
    with RawClient(strict_server) as client:
        answer = client.connect(properties=Properties(authentication_method="SCRAM-SHA-1"))
        assert answer.reason is Reason.BAD_AUTHENTICATION_METHOD


def test_a_will_of_qos_2_is_refused(strict_server: ServerProcess) -> None:
    with RawClient(strict_server) as client:
        assert client.connect(will=packets.Will("a", b"", 2)).reason is Reason.QOS_NOT_SUPPORTED


@pytest.mark.parametrize("topic_filter", ["a/#/b", "a#", "a/b+", "$share/group", "$share//a", "$share/g+/a"])
def test_an_invalid_filter_is_refused(strict_server: ServerProcess, topic_filter: str) -> None:
    """Alone: the other filters of the packet are granted."""
    with RawClient(strict_server) as client:
        client.connect()
        client.send(Subscribe(1, (SubscriptionRequest(topic_filter), SubscriptionRequest("good"))))
        answer = client.receive()
    assert isinstance(answer, packets.SubAck)
    assert answer.reasons == (Reason.TOPIC_FILTER_INVALID, Reason.SUCCESS)


def test_subscriptions_are_limited(start_embedded: StartBroker) -> None:
    with Client(start_embedded(max_subscriptions_per_client=2)) as client:
        assert client.subscribe("a", "b", "c") == [0, 0, Reason.QUOTA_EXCEEDED]
        assert client.subscribe("a") == [0]
        client.unsubscribe("a")
        assert client.subscribe("c") == [0]


def test_retained_topics_are_limited(start_embedded: StartBroker) -> None:
    with Client(start_embedded(max_retained_messages=2)) as client:
        assert client.publish("a", b"x", 1, retain=True) < 0x80
        assert client.publish("b", b"x", 1, retain=True, MessageExpiryInterval=1) < 0x80
        assert client.publish("c", b"x", 1, retain=True) == Reason.QUOTA_EXCEEDED
        assert client.publish("a", b"y", 1, retain=True) < 0x80
        wait_until(lambda: client.publish("c", b"x", 1, retain=True) < 0x80, what="room of the expired one")


def test_retained_bytes_are_limited_and_a_refused_message_changes_nothing(
    start_embedded: StartBroker,
) -> None:
    with Client(start_embedded(max_retained_bytes=20_000)) as client:
        assert client.publish("a", bytes(9_000), 1, retain=True) < 0x80
        assert client.publish("b", bytes(7_000), 1, retain=True, MessageExpiryInterval=1) < 0x80
        assert client.publish("c", bytes(5_000), 1, retain=True) == Reason.QUOTA_EXCEEDED
        assert client.publish("a", bytes(20_000), 1, retain=True) == Reason.QUOTA_EXCEEDED
        client.subscribe("a")
        assert len(client.next().payload) == 9_000
        wait_until(
            lambda: client.publish("c", bytes(5_000), 1, retain=True) < 0x80, what="expired bytes' room"
        )
        client.publish("a", b"", 1, retain=True)
        assert client.publish("d", bytes(9_000), 1, retain=True) < 0x80


def test_what_is_retained_beside_payloads_counts_too(start_embedded: StartBroker) -> None:
    """A user property can hold as much as a payload, and a deep topic costs nodes."""
    with Client(start_embedded(max_retained_bytes=8_000)) as client:
        wordy = [("k", "x" * 9_000)]
        assert client.publish("a", b"x", 1, retain=True, UserProperty=wordy) == Reason.QUOTA_EXCEEDED
        assert client.publish("a" + "/b" * 30, b"x", 1, retain=True) == Reason.QUOTA_EXCEEDED
        assert client.publish("a", b"x", 1, retain=True) < 0x80


def test_subscriptions_of_all_clients_together_are_limited(start_embedded: StartBroker) -> None:
    server = start_embedded(max_subscriptions=2)
    with Client(server) as other:
        with Client(server) as client:
            assert client.subscribe("a", "b") == [0, 0]
            assert other.subscribe("c") == [Reason.QUOTA_EXCEEDED]
            assert client.subscribe("a") == [0]
            client.unsubscribe("a")
            assert other.subscribe("c") == [0]
        wait_until(lambda: other.subscribe("d") == [0], what="room of the client that left")


@pytest.mark.parametrize("version", [V5, V311], ids=["mqtt5", "mqtt311"])
def test_a_long_will_is_refused(start_embedded: StartBroker, version: int) -> None:
    server = start_embedded(max_will_bytes=100)
    client = Client(server, version=version, will=("gone", bytes(101), 1, False)).connect()
    assert client.connack == (Reason.QUOTA_EXCEEDED if version == V5 else Reason.SERVER_UNAVAILABLE)
    client.close()
    with Client(server, version=version, will=("gone", bytes(90), 1, False)):
        pass


@pytest.mark.parametrize("bad_topic", ["a/b/c/d", "x" * 65])
def test_topics_are_limited_in_depth_and_length(start_embedded: StartBroker, bad_topic: str) -> None:
    server = start_embedded(max_topic_levels=3, max_topic_bytes=64)
    with Client(server) as client:
        assert client.subscribe(bad_topic) == [Reason.TOPIC_FILTER_INVALID]
        client.paho.publish(bad_topic, b"", 1)
        assert client.wait_lost() == Reason.TOPIC_NAME_INVALID


def test_connections_are_limited(start_embedded: StartBroker) -> None:
    server = start_embedded(max_connections=2)
    with Client(server), Client(server):
        third = Client(server).connect()
        assert third.connack == Reason.SERVER_BUSY
        third.close()
    wait_until(lambda: _accepted(server), what="room for another connection")


def _accepted(server: ServerProcess) -> bool:
    client = Client(server).connect()
    client.close()
    return client.connack == 0


def test_sessions_are_limited(start_embedded: StartBroker) -> None:
    server = start_embedded(max_sessions=1)
    with Client(server, "kept", clean=False, expiry_s=60):
        pass
    second = Client(server).connect()
    assert second.connack == Reason.QUOTA_EXCEEDED
    second.close()
    with Client(server, "kept", clean=False, expiry_s=60) as again:
        assert again.session_present


def test_session_expiry_is_cut_and_the_client_told(start_embedded: StartBroker) -> None:
    with Client(start_embedded(max_session_expiry_s=7), expiry_s=100) as client:
        assert client.connack_properties.SessionExpiryInterval == 7


def test_keep_alive_is_cut_and_the_client_told(start_embedded: StartBroker) -> None:
    with Client(start_embedded(max_keep_alive_s=7), keepalive_s=100) as client:
        assert client.connack_properties.ServerKeepAlive == 7


def test_a_long_client_id_is_refused(start_embedded: StartBroker) -> None:
    client = Client(start_embedded(max_client_id_bytes=8), "much too long").connect()
    assert client.connack == Reason.CLIENT_IDENTIFIER_NOT_VALID
    client.close()


def test_a_socket_that_never_says_connect_is_closed(start_embedded: StartBroker) -> None:
    with RawClient(start_embedded(connect_timeout_s=0.2)) as client:
        assert client.closed() is None


def test_a_message_larger_than_the_maximum_is_refused_before_it_is_read(start_embedded: StartBroker) -> None:
    with Client(start_embedded(max_packet_bytes=1000)) as client:
        assert client.connack_properties.MaximumPacketSize == 1000
        client.paho.publish("a", b"x" * 2000, 1)
        assert client.wait_lost() in {Reason.PACKET_TOO_LARGE, Reason.UNSPECIFIED_ERROR}


def _unread(server: ServerProcess, topic: str, qos: int) -> RawClient:
    """A subscriber that reads nothing any more."""
    client = RawClient(server)
    client.connect()
    client.send(Subscribe(1, (SubscriptionRequest(topic, qos),)))
    client.receive()
    return client


def test_a_reader_that_stops_reading_loses_qos_0_and_holds_up_nobody(start_embedded: StartBroker) -> None:
    server = start_embedded(max_queued_messages=10, max_write_buffer_bytes=1000)
    with _unread(server, "a", 0) as slow, Client(server) as sender, Client(server) as reader:
        reader.subscribe("a")
        for number in range(200):
            sender.publish("a", bytes(100_000))
            assert len(reader.next().payload) == 100_000, number
        slow.send(packets.PingReq())
        received = [slow.receive()]
        while isinstance(received[-1], Publish):
            received.append(slow.receive())
    assert isinstance(received[-1], packets.PingResp)
    assert 1 <= len(received) < 200


def test_a_reader_that_stops_reading_qos_1_is_disconnected(start_embedded: StartBroker) -> None:
    server = start_embedded(max_queued_messages=10, max_inflight=5)
    with _unread(server, "a", 1) as slow, Client(server) as sender:
        for _ in range(20):
            sender.publish("a", b"x", 1)
        goodbye = slow.closed()
    assert goodbye is not None
    assert goodbye.reason is Reason.QUOTA_EXCEEDED


def test_queued_bytes_are_limited_too(start_embedded: StartBroker) -> None:
    server = start_embedded(max_queued_bytes=5_000, max_inflight=1)
    with _unread(server, "a", 1) as slow, Client(server) as sender:
        for _ in range(10):
            sender.publish("a", b"x" * 1_000, 1)
        goodbye = slow.closed()
    assert goodbye is not None
    assert goodbye.reason is Reason.QUOTA_EXCEEDED


def test_the_queue_of_an_absent_client_is_limited(start_embedded: StartBroker) -> None:
    server = start_embedded(max_queued_messages=3)
    with Client(server, "kept", clean=False, expiry_s=60) as client:
        client.subscribe("a", qos=1)
    with Client(server) as sender:
        for number in range(10):
            sender.publish("a", str(number).encode(), 1)
    with Client(server, "kept", clean=False, expiry_s=60) as client:
        assert client.payloads(3) == [b"0", b"1", b"2"]
        assert client.silent(0.1)


def _absent(server: ServerProcess, client_id: str, topic: str) -> None:
    """A kept session whose client is gone; what is published to the topic waits for it."""
    with Client(server, client_id, clean=False, expiry_s=60) as client:
        client.subscribe(topic, qos=1)


def _waited_for(server: ServerProcess, client_id: str) -> list[bytes]:
    with Client(server, client_id, clean=False, expiry_s=60) as client:
        client.ping()
        return [client.next().payload for _ in range(client.messages.qsize())]


def test_whoever_hoards_most_gives_way_and_small_queues_stay_whole(start_embedded: StartBroker) -> None:
    server = start_embedded(max_total_queued_bytes=200_000)
    for client_id in ("modest", "greedy"):
        _absent(server, client_id, client_id)
    with Client(server) as sender:
        assert sender.publish("modest", b"first", 1) < 0x80
        for number in range(100):
            sender.publish("greedy", number.to_bytes(1) * 10_000, 1)
        assert sender.publish("modest", b"last", 1) < 0x80
    assert _waited_for(server, "modest") == [b"first", b"last"]
    left = [payload[0] for payload in _waited_for(server, "greedy")]
    assert left == list(range(100 - len(left), 100))
    assert 5 <= len(left) <= 20


def test_a_message_that_waits_for_many_is_counted_once(start_embedded: StartBroker) -> None:
    server = start_embedded(max_total_queued_bytes=150_000)
    for number in range(10):
        _absent(server, f"kept-{number}", "news")
    with Client(server) as sender:
        sender.publish("news", bytes(100_000), 1)
    assert [len(_waited_for(server, f"kept-{number}")) for number in range(10)] == [1] * 10


def test_unacknowledged_messages_count_among_those_that_wait(start_embedded: StartBroker) -> None:
    """A client that reads everything and acknowledges nothing is closed at the total, and told."""
    server = start_embedded(max_total_queued_bytes=300_000)
    with Client(server, manual_ack=True) as hoarder, Client(server) as sender:
        hoarder.subscribe("a", qos=1)
        for _ in range(10):
            sender.publish("a", bytes(50_000), 1)
        assert hoarder.wait_lost() == Reason.QUOTA_EXCEEDED
        hoarder.close()


@pytest.mark.parametrize("version", [V5, V311], ids=["mqtt5", "mqtt311"])
def test_stopping_says_goodbye_and_exits_cleanly(start_embedded: StartBroker, version: int) -> None:
    server = start_embedded()
    client = Client(server, version=version).connect()
    assert server.stop() == 0
    reason = client.wait_lost()
    assert reason == Reason.SERVER_SHUTTING_DOWN or version == V311
    client.close()
