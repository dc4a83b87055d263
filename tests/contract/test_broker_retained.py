"""Retained messages; run against ours and against Mosquitto.

Source: MQTT 5 sections 3.3.1.3 (RETAIN), 3.8.3.1 (retain handling, retain as published), 3.3.2.3.3 (expiry).
"""

from __future__ import annotations

import time

import pytest

from tests.mqtt_clients import V5, V311, Client
from tests.servers import ServerProcess
from tests.waiting import wait_until


@pytest.mark.parametrize("version", [V5, V311], ids=["mqtt5", "mqtt311"])
def test_the_last_retained_message_meets_new_subscribers(
    broker_endpoint: ServerProcess, topic: str, version: int
) -> None:
    with Client(broker_endpoint, version=version) as sender:
        sender.publish(topic, b"old", 1, retain=True)
        sender.publish(topic, b"new", 1, retain=True)
    with Client(broker_endpoint, version=version) as receiver:
        receiver.subscribe(topic, qos=1)
        message = receiver.next()
        assert (message.payload, message.retain, message.qos) == (b"new", True, 1)
        assert receiver.silent()


def test_a_live_delivery_does_not_look_retained(broker_endpoint: ServerProcess, topic: str) -> None:
    with Client(broker_endpoint) as client:
        client.subscribe(topic)
        client.publish(topic, b"x", retain=True)
        assert client.next().retain is False


def test_retain_as_published_keeps_the_flag(broker_endpoint: ServerProcess, topic: str) -> None:
    with Client(broker_endpoint) as client:
        client.subscribe(topic, retain_as_published=True)
        client.publish(topic, b"kept", retain=True)
        client.publish(topic, b"not kept", retain=False)
        assert [client.next().retain, client.next().retain] == [True, False]


def test_an_empty_payload_removes_the_retained_message(broker_endpoint: ServerProcess, topic: str) -> None:
    with Client(broker_endpoint) as client:
        client.publish(topic, b"x", 1, retain=True)
        client.publish(topic, b"", 1, retain=True)
        client.subscribe(topic)
        assert client.silent()


@pytest.mark.parametrize(
    ("topic_filter", "found"),
    [("#", {"", "/a", "/a/b", "/c"}), ("+", {"/a", "/c"}), ("+/b", {"/a/b"}), ("a", {"/a"}), ("d/#", set())],
)
def test_wildcards_find_retained_messages(
    broker_endpoint: ServerProcess, topic: str, topic_filter: str, found: set[str]
) -> None:
    with Client(broker_endpoint) as client:
        for leaf in ("", "/a", "/a/b", "/c"):
            client.publish(topic + leaf, b"x", 1, retain=True)
        client.subscribe(f"{topic}/{topic_filter}", qos=1)
        assert {client.next().topic.removeprefix(topic) for _ in found} == found
        client.ping()
        assert client.silent(0.1)


def test_retain_handling_1_sends_only_to_a_new_subscription(
    broker_endpoint: ServerProcess, topic: str
) -> None:
    with Client(broker_endpoint) as client:
        client.publish(topic, b"x", 1, retain=True)
        client.subscribe(topic, retain_handling=1)
        assert client.next().payload == b"x"
        client.subscribe(topic, retain_handling=1)
        assert client.silent()


def test_retain_handling_0_sends_at_every_subscription(broker_endpoint: ServerProcess, topic: str) -> None:
    with Client(broker_endpoint) as client:
        client.publish(topic, b"x", 1, retain=True)
        client.subscribe(topic)
        client.subscribe(topic)
        assert client.payloads(2) == [b"x", b"x"]


def test_retain_handling_2_never_sends(broker_endpoint: ServerProcess, topic: str) -> None:
    with Client(broker_endpoint) as client:
        client.publish(topic, b"x", 1, retain=True)
        client.subscribe(topic, retain_handling=2)
        assert client.silent()


def test_a_shared_subscription_gets_no_retained_messages(embedded_server: ServerProcess, topic: str) -> None:
    """Source: MQTT 5 section 4.8.2. Ours only: Mosquitto 2.0.11 sends them."""
    with Client(embedded_server) as client:
        client.publish(topic, b"x", 1, retain=True)
        client.subscribe(f"$share/group/{topic}")
        assert client.silent()


def test_a_retained_message_expires(broker_endpoint: ServerProcess, topic: str) -> None:
    with Client(broker_endpoint) as sender:
        sender.publish(topic, b"x", 1, retain=True, MessageExpiryInterval=1)

    def gone() -> bool:
        with Client(broker_endpoint) as receiver:
            receiver.subscribe(topic)
            return receiver.silent(0.1)

    wait_until(gone, 5, "the retained message's expiry")


def test_a_retained_message_keeps_its_properties_and_tells_what_is_left(
    broker_endpoint: ServerProcess, topic: str
) -> None:
    with Client(broker_endpoint) as client:
        client.publish(topic, b"x", 1, retain=True, MessageExpiryInterval=100, ContentType="text/plain")
        published_s = time.monotonic()
        wait_until(lambda: time.monotonic() - published_s > 1.1)
        client.subscribe(topic)
        props = client.next().properties
    assert props.ContentType == "text/plain"
    assert 90 <= props.MessageExpiryInterval <= 99
