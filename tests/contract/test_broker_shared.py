"""Shared subscriptions; run against ours and against Mosquitto.

Source: MQTT 5 section 4.8.2.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

import pytest

from broker.embedded import packets
from tests.mqtt_clients import V5, V311, Client, RawClient
from tests.servers import ServerProcess
from tests.waiting import wait_until

MESSAGES = 60


def drained(clients: list[Client], count: int) -> list[list[bytes]]:
    """The payloads each client got, once all have `count` together."""
    wait_until(lambda: sum(client.messages.qsize() for client in clients) >= count, what=f"{count} messages")
    return [
        [client.messages.get_nowait().payload for _ in range(client.messages.qsize())] for client in clients
    ]


@pytest.mark.parametrize("version", [V5, V311], ids=["mqtt5", "mqtt311"])
def test_each_message_goes_to_one_member(broker_endpoint: ServerProcess, topic: str, version: int) -> None:
    with ExitStack() as stack:
        members = [stack.enter_context(Client(broker_endpoint, version=version)) for _ in range(3)]
        for member in members:
            member.subscribe(f"$share/group/{topic}/+", qos=1)
        sender = stack.enter_context(Client(broker_endpoint))
        for number in range(MESSAGES):
            sender.publish(f"{topic}/{number}", str(number).encode(), 1)
        shares = drained(members, MESSAGES)
        got = Counter(payload for share in shares for payload in share)
    assert got == Counter(str(number).encode() for number in range(MESSAGES))
    assert min(len(share) for share in shares) >= MESSAGES // 6


def test_groups_and_plain_subscribers_each_get_every_message(
    broker_endpoint: ServerProcess, topic: str
) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(broker_endpoint)) for _ in range(3)]
        for client, topic_filter in zip(clients, ("$share/a/", "$share/b/", ""), strict=True):
            client.subscribe(topic_filter + topic, qos=1)
        stack.enter_context(Client(broker_endpoint)).publish(topic, b"x", 1)
        assert [client.next().payload for client in clients] == [b"x", b"x", b"x"]


def test_a_member_that_leaves_gets_nothing_more(broker_endpoint: ServerProcess, topic: str) -> None:
    with Client(broker_endpoint) as leaving, Client(broker_endpoint) as staying:
        for client in (leaving, staying):
            client.subscribe(f"$share/group/{topic}", qos=1)
        leaving.unsubscribe(f"$share/group/{topic}")
        for _ in range(4):
            staying.publish(topic, b"x", 1)
        assert staying.payloads(4) == [b"x"] * 4
        assert leaving.silent(0.1)


def test_a_member_that_died_is_left_out(broker_endpoint: ServerProcess, topic: str) -> None:
    """Its will says that the broker has noticed: until then Mosquitto may still hand it messages."""
    with Client(broker_endpoint) as staying:
        staying.subscribe(f"{topic}/gone", qos=1)
        dying = Client(broker_endpoint, will=(f"{topic}/gone", b"gone", 1, False)).connect()
        for client in (dying, staying):
            client.subscribe(f"$share/group/{topic}", qos=1)
        dying.die()
        assert staying.next().payload == b"gone"
        for number in range(4):
            staying.publish(topic, b"x", 1)
            assert staying.next().payload == b"x", number


def test_no_local_on_a_shared_subscription_is_an_error(embedded_server: ServerProcess, topic: str) -> None:
    """Source: MQTT 5 [MQTT-3.8.3-4]. Ours only: Mosquitto 2.0.11 lets it pass."""
    with RawClient(embedded_server) as client:
        client.connect()
        request = packets.SubscriptionRequest(f"$share/group/{topic}", no_local=True)
        client.send(packets.Subscribe(1, (request,)))
        goodbye = client.closed()
    assert goodbye is not None
    assert goodbye.reason == 0x82


def test_what_a_dead_member_never_acknowledged_goes_to_another(
    embedded_server: ServerProcess, topic: str
) -> None:
    """Ours only: Mosquitto 2.0 loses a dead member's messages in flight."""
    dying = Client(embedded_server, manual_ack=True).connect()
    dying.subscribe(f"$share/group/{topic}", qos=1)
    with Client(embedded_server) as staying:
        for number in range(10):
            staying.publish(topic, str(number).encode(), 1)
        assert dying.payloads(10) == [str(number).encode() for number in range(10)]
        staying.subscribe(f"$share/group/{topic}", qos=1)
        dying.die()
        assert staying.payloads(10) == [str(number).encode() for number in range(10)]


def test_a_kept_member_gets_its_unacknowledged_messages_back_when_it_is_the_only_one(
    embedded_server: ServerProcess, topic: str
) -> None:
    """Ours only, as above."""
    first = Client(embedded_server, "worker", clean=False, expiry_s=60, manual_ack=True).connect()
    first.subscribe(f"$share/group/{topic}", qos=1)
    with Client(embedded_server) as sender:
        sender.publish(topic, b"x", 1)
        assert first.next().payload == b"x"
        first.die()
        sender.publish(topic, b"y", 1)
        with Client(embedded_server, "worker", clean=False, expiry_s=60) as second:
            assert second.payloads(2) == [b"x", b"y"]


def test_a_member_whose_quota_is_used_up_is_passed_over(embedded_server: ServerProcess, topic: str) -> None:
    """Ours only: messages go to a member that can take them at once."""
    busy = Client(embedded_server, connect_properties={"ReceiveMaximum": 1}, manual_ack=True).connect()
    with Client(embedded_server) as free:
        for client in (busy, free):
            client.subscribe(f"$share/group/{topic}", qos=1)
        for number in range(10):
            free.publish(topic, str(number).encode(), 1)
        assert len(free.payloads(9)) == 9
        assert busy.next().payload in {b"0", b"1"}
        assert busy.silent(0.1)
    busy.close()
