"""Sessions, wills and time; run against ours and against Mosquitto.

Source: MQTT 5 sections 3.1.2 (clean start, keep-alive, expiry, will), 3.1.4 (take-over), 4.4 (redelivery).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from broker.embedded import packets
from broker.embedded.properties import Properties
from tests.mqtt_clients import V5, V311, Client, RawClient
from tests.servers import MosquittoServer, ServerProcess
from tests.waiting import wait_until

Unique = Callable[[str], str]
TAKEN_OVER = 0x8E
WITH_WILL = 0x04


def kept(server: ServerProcess, client_id: str, version: int = V5, **options: object) -> Client:
    """A client whose session outlives its connection."""
    if version == V311:
        return Client(server, client_id, version=V311, clean=False, **options)  # type: ignore[arg-type]
    return Client(server, client_id, clean=False, expiry_s=60, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [V5, V311], ids=["mqtt5", "mqtt311"])
def test_a_kept_session_receives_what_came_meanwhile(
    broker_endpoint: ServerProcess, topic: str, unique: Unique, version: int
) -> None:
    client_id = unique("kept")
    with kept(broker_endpoint, client_id, version) as first:
        assert not first.session_present
        first.subscribe(topic, qos=1)
    with Client(broker_endpoint) as sender:
        for payload in (b"1", b"2", b"3"):
            sender.publish(topic, payload, 1)
    with kept(broker_endpoint, client_id, version) as second:
        assert second.session_present
        assert second.payloads(3) == [b"1", b"2", b"3"]


def test_a_clean_start_forgets_the_session(
    broker_endpoint: ServerProcess, topic: str, unique: Unique
) -> None:
    client_id = unique("kept")
    with kept(broker_endpoint, client_id) as first:
        first.subscribe(topic, qos=1)
    with Client(broker_endpoint, client_id) as second, Client(broker_endpoint) as sender:
        assert not second.session_present
        sender.publish(topic, b"x", 1)
        assert second.silent()


def test_a_session_expires(broker_endpoint: ServerProcess, unique: Unique) -> None:
    client_id = unique("short")
    with Client(broker_endpoint, client_id, clean=False, expiry_s=1):
        pass
    ended_s = time.monotonic()
    # Reconnecting renews the session, so look once, after it must be gone.
    wait_until(lambda: time.monotonic() - ended_s > 2.5)
    with Client(broker_endpoint, client_id, clean=False, expiry_s=1) as again:
        assert not again.session_present


def test_disconnect_may_change_the_expiry(broker_endpoint: ServerProcess, unique: Unique) -> None:
    client_id = unique("kept")
    client = kept(broker_endpoint, client_id).connect()
    client.close_with(0, SessionExpiryInterval=0)
    with kept(broker_endpoint, client_id) as again:
        assert not again.session_present


def test_a_waiting_message_expires(broker_endpoint: ServerProcess, topic: str, unique: Unique) -> None:
    """Source: MQTT 5 [MQTT-3.3.2-5], [MQTT-3.3.2-6]."""
    client_id = unique("kept")
    with kept(broker_endpoint, client_id) as receiver:
        receiver.subscribe(topic, qos=1)
    with Client(broker_endpoint) as sender:
        sender.publish(topic, b"short", 1, MessageExpiryInterval=1)
        sender.publish(topic, b"long", 1, MessageExpiryInterval=100)
    sent_s = time.monotonic()
    wait_until(lambda: time.monotonic() - sent_s > 2.1)
    with kept(broker_endpoint, client_id) as receiver:
        message = receiver.next()
    assert message.payload == b"long"
    assert 90 <= message.properties.MessageExpiryInterval <= 99


def test_what_was_not_acknowledged_comes_again(
    broker_endpoint: ServerProcess, topic: str, unique: Unique
) -> None:
    """Source: MQTT 5 [MQTT-4.4.0-1]: the same identifier, marked as a duplicate."""
    client_id = unique("kept")
    fields = {"clean_start": False, "properties": Properties(session_expiry_interval=60)}
    with RawClient(broker_endpoint) as first, Client(broker_endpoint) as sender:
        first.connect(client_id, **fields)
        first.send(packets.Subscribe(1, (packets.SubscriptionRequest(topic, 1),)))
        assert isinstance(first.receive(), packets.SubAck)
        sender.publish(topic, b"x", 1)
        original = first.receive()
    with RawClient(broker_endpoint) as second:
        assert second.connect(client_id, **fields).session_present
        again = second.receive()
        assert isinstance(original, packets.Publish)
        assert isinstance(again, packets.Publish)
        assert (again.payload, again.packet_id, again.dup) == (b"x", original.packet_id, True)


def test_a_second_client_of_the_same_id_takes_over(broker_endpoint: ServerProcess, unique: Unique) -> None:
    client_id = unique("twin")
    first = Client(broker_endpoint, client_id).connect()
    with Client(broker_endpoint, client_id) as second:
        reason = first.wait_lost()
        second.ping()
    # Mosquitto 2.0.11 may close without saying why.
    assert reason == TAKEN_OVER or isinstance(broker_endpoint, MosquittoServer)
    first.close()


def test_a_take_over_keeps_a_kept_session(broker_endpoint: ServerProcess, topic: str, unique: Unique) -> None:
    client_id = unique("twin")
    first = kept(broker_endpoint, client_id).connect()
    first.subscribe(topic, qos=1)
    with kept(broker_endpoint, client_id) as second, Client(broker_endpoint) as sender:
        assert second.session_present
        sender.publish(topic, b"x", 1)
        assert second.next().payload == b"x"
    first.wait_lost()
    first.close()


def test_an_empty_client_id_is_given_one(broker_endpoint: ServerProcess) -> None:
    with Client(broker_endpoint, "") as client:
        assert client.connack_properties.AssignedClientIdentifier


def test_an_empty_client_id_can_keep_no_session_on_3_1_1(broker_endpoint: ServerProcess) -> None:
    """Source: MQTT 3.1.1 [MQTT-3.1.3-8]; the broker answers with code 2."""
    with RawClient(broker_endpoint, packets.MQTT_311) as client:
        answer = client.connect("", clean_start=False)
        assert answer.reason == 0x85
        assert client.closed() is None


# --- wills ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [V5, V311], ids=["mqtt5", "mqtt311"])
def test_the_will_of_a_lost_client_is_published(
    broker_endpoint: ServerProcess, topic: str, version: int
) -> None:
    with Client(broker_endpoint) as watcher:
        watcher.subscribe(topic, qos=1)
        Client(broker_endpoint, version=version, will=(topic, b"gone", 1, True)).connect().die()
        assert watcher.next().payload == b"gone"
        with Client(broker_endpoint) as late:
            late.subscribe(topic)
            assert late.next().retain is True


def test_a_client_that_says_goodbye_leaves_no_will(broker_endpoint: ServerProcess, topic: str) -> None:
    with Client(broker_endpoint) as watcher:
        watcher.subscribe(topic)
        Client(broker_endpoint, will=(topic, b"gone", 0, False)).connect().close()
        assert watcher.silent()


def test_a_client_may_ask_for_its_will_at_goodbye(broker_endpoint: ServerProcess, topic: str) -> None:
    with Client(broker_endpoint) as watcher:
        watcher.subscribe(topic)
        Client(broker_endpoint, will=(topic, b"gone", 0, False)).connect().close_with(WITH_WILL)
        assert watcher.next().payload == b"gone"


def test_a_will_is_published_at_take_over(broker_endpoint: ServerProcess, topic: str, unique: Unique) -> None:
    client_id = unique("twin")
    with Client(broker_endpoint) as watcher:
        watcher.subscribe(topic)
        first = Client(broker_endpoint, client_id, will=(topic, b"gone", 0, False)).connect()
        with Client(broker_endpoint, client_id):
            assert watcher.next().payload == b"gone"
        first.close()


def test_a_delayed_will_waits(broker_endpoint: ServerProcess, topic: str, unique: Unique) -> None:
    """Source: MQTT 5 section 3.1.3.2.2."""
    will = (topic, b"gone", 0, False)
    with Client(broker_endpoint) as watcher:
        watcher.subscribe(topic)
        kept(broker_endpoint, unique("slow"), will=will, will_delay_s=1).connect().die()
        assert watcher.silent(0.3)
        assert watcher.next().payload == b"gone"


def test_a_client_that_is_back_in_time_takes_its_delayed_will_back(
    broker_endpoint: ServerProcess, topic: str, unique: Unique
) -> None:
    client_id, will = unique("slow"), (topic, b"gone", 0, False)
    with Client(broker_endpoint) as watcher:
        watcher.subscribe(topic)
        kept(broker_endpoint, client_id, will=will, will_delay_s=1).connect().die()
        with kept(broker_endpoint, client_id):
            assert watcher.silent(1.8)


def test_the_end_of_the_session_publishes_a_delayed_will(
    broker_endpoint: ServerProcess, topic: str, unique: Unique
) -> None:
    """Source: MQTT 5 [MQTT-3.1.3-9]: whichever comes first, delay or end of session."""
    will = (topic, b"gone", 0, False)
    with Client(broker_endpoint) as watcher:
        watcher.subscribe(topic)
        client = Client(broker_endpoint, unique("slow"), expiry_s=1, will=will, will_delay_s=60)
        client.connect().die()
        assert watcher.next(8).payload == b"gone"


def test_will_properties_pass_through(broker_endpoint: ServerProcess, topic: str) -> None:
    props = Properties(content_type="text/plain", user_property=(("key", "value"),))
    will = packets.Will(topic, b"gone", properties=props)
    with Client(broker_endpoint) as watcher:
        watcher.subscribe(topic)
        with RawClient(broker_endpoint) as client:
            client.connect(will=will)
        message = watcher.next()
    assert message.properties.ContentType == "text/plain"
    assert message.properties.UserProperty == [("key", "value")]


# --- keep-alive ------------------------------------------------------------------------------------


def test_a_silent_client_is_closed_after_one_and_a_half_keep_alives(
    broker_endpoint: ServerProcess, topic: str
) -> None:
    """Source: MQTT 5 [MQTT-3.1.2-22]."""
    with Client(broker_endpoint) as watcher, RawClient(broker_endpoint) as client:
        watcher.subscribe(topic)
        began_s = time.monotonic()
        client.connect(keep_alive_s=1, will=packets.Will(topic, b"gone"))
        goodbye = client.closed()
        silent_s = time.monotonic() - began_s
        assert watcher.next().payload == b"gone"
    assert goodbye is None or goodbye.reason == 0x8D
    # Never before the keep-alive itself; Mosquitto counts whole seconds.
    assert silent_s >= 1.0


def test_pings_keep_a_connection(broker_endpoint: ServerProcess) -> None:
    with RawClient(broker_endpoint) as client:
        client.connect(keep_alive_s=1)
        end_s = time.monotonic() + 2.5
        while time.monotonic() < end_s:
            client.send(packets.PingReq())
            assert isinstance(client.receive(), packets.PingResp)
            time.sleep(0.2)
