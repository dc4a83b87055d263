"""The broker without sockets: bytes in, bytes out, and a clock that only moves when told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.embedded import packets
from broker.embedded.connection import Connection
from broker.embedded.core import BrokerCore
from broker.embedded.decoding import decode
from broker.embedded.encoding import encode
from broker.embedded.framing import Framer
from broker.embedded.packets import MQTT_5, Packet, Publish, Subscribe, SubscriptionRequest
from broker.embedded.primitives import MAX_VARINT
from broker.embedded.properties import Properties
from broker.embedded.settings import BrokerSettings


class World:
    """A broker core with time in the test's hands."""

    def __init__(self, **settings: Any) -> None:
        self.now_s = 1_000.0
        self.core = BrokerCore(BrokerSettings(**settings), lambda: self.now_s)

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        self.core.timers.run(self.now_s)
        self.settle()

    def settle(self) -> None:
        """What the sockets would do: connections that are closing are lost."""
        while self.core.unflushed:
            connection = self.core.unflushed.popleft()
            if connection.closing:
                connection.lost()

    def client(self, client_id: str, **fields: Any) -> Peer:
        return Peer(self, client_id, **fields)


class Peer:
    """The other end of one connection."""

    def __init__(
        self,
        world: World,
        client_id: str,
        expiry_s: int = 0,
        receive_maximum: int | None = None,
        **fields: Any,
    ) -> None:
        self._world = world
        self._framer = Framer(MAX_VARINT)
        self._early: list[Packet] = []
        self.connection = Connection(world.core)
        props = Properties(session_expiry_interval=expiry_s, receive_maximum=receive_maximum)
        self.send(packets.Connect(client_id, clean_start=expiry_s == 0, properties=props, **fields))
        self.connack, *self._early = self.received()

    def send(self, packet: Packet) -> None:
        self.connection.receive(encode(packet, MQTT_5))
        self._world.settle()

    def received(self) -> list[Packet]:
        early, self._early = self._early, []
        data = self.connection.take_output()
        return early + [decode(first, body, MQTT_5) for first, body in self._framer.feed(data)]

    def messages(self) -> list[Publish]:
        return [packet for packet in self.received() if isinstance(packet, Publish)]

    def published(self) -> list[bytes]:
        return [packet.payload for packet in self.messages()]

    def subscribe(self, topic_filter: str, qos: int = 1) -> None:
        self.send(Subscribe(1, (SubscriptionRequest(topic_filter, qos),)))
        self.received()

    def publish(self, topic: str, payload: bytes, qos: int = 1, **values: Any) -> None:
        self.send(Publish(topic, payload, qos, packet_id=7 if qos else 0, properties=Properties(**values)))

    def vanish(self) -> None:
        self.connection.lost()
        self._world.settle()


def test_a_kept_session_ends_when_its_time_is_over() -> None:
    world = World()
    world.client("c", expiry_s=60).vanish()
    world.advance(59)
    assert len(world.core.registry) == 1
    world.advance(2)
    assert len(world.core.registry) == 0


def test_coming_back_stops_the_clock_of_a_session() -> None:
    world = World()
    world.client("c", expiry_s=60).vanish()
    world.advance(59)
    world.client("c", expiry_s=60)
    world.advance(1_000)
    assert len(world.core.registry) == 1


def test_expiry_counts_down_while_a_message_waits() -> None:
    world = World()
    receiver = world.client("c", expiry_s=600)
    receiver.subscribe("a")
    receiver.vanish()
    sender = world.client("s")
    sender.publish("a", b"short", message_expiry_interval=10)
    sender.publish("a", b"long", message_expiry_interval=100)
    world.advance(30.5)
    [message] = world.client("c", expiry_s=600).messages()
    assert message.payload == b"long"
    assert message.properties.message_expiry_interval == 70


def test_an_expiry_of_zero_still_reaches_who_is_there() -> None:
    world = World()
    receiver = world.client("r")
    receiver.subscribe("a")
    world.client("s").publish("a", b"now", message_expiry_interval=0)
    assert receiver.published() == [b"now"]


def test_keep_alive_is_one_and_a_half_times_what_was_asked() -> None:
    world = World()
    peer = world.client("c", keep_alive_s=10)
    world.advance(14.9)
    assert not peer.connection.closing
    peer.send(packets.PingReq())
    world.advance(14.9)
    assert not peer.connection.closing
    world.advance(0.2)
    assert peer.connection.closing


def test_a_delayed_will_speaks_when_its_delay_is_over() -> None:
    world = World()
    watcher = world.client("w")
    watcher.subscribe("gone")
    will = packets.Will("gone", b"c", properties=Properties(will_delay_interval=30))
    world.client("c", expiry_s=600, will=will).vanish()
    world.advance(29)
    assert watcher.published() == []
    world.advance(2)
    assert watcher.published() == [b"c"]
    world.advance(10_000)
    assert watcher.published() == []


def test_receive_maximum_counts_what_is_unacknowledged() -> None:
    world = World()
    receiver = world.client("r", receive_maximum=2)
    receiver.subscribe("a")
    sender = world.client("s")
    for number in range(5):
        sender.publish("a", bytes((number,)))
    first, second = receiver.messages()
    receiver.send(packets.PubAck(first.packet_id))
    receiver.send(packets.PubAck(12_345))
    assert receiver.published() == [b"\x02"]
    receiver.send(packets.PubAck(second.packet_id))
    assert receiver.published() == [b"\x03"]


def test_a_session_that_ends_leaves_nothing_behind() -> None:
    """Memory: subscriptions, groups, timers and sessions of a thousand clients are gone with them."""
    world = World()
    for number in range(1_000):
        peer = world.client(f"c{number}", keep_alive_s=10)
        peer.subscribe(f"a/{number}")
        peer.subscribe(f"$share/g/b/{number}")
        peer.vanish()
    assert len(world.core.registry) == 0
    assert world.core.router._tree._root.empty
    assert world.core.timers.next_at_s() is None
    assert not world.core.connections


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=12), st.data())
def test_shared_messages_are_neither_lost_nor_doubled_when_members_die(
    order: list[str], data: st.DataObject
) -> None:
    """Members die and acknowledge at any moment; what one never acknowledged another gets, once."""
    world = World()
    members = {name: world.client(name) for name in "abc"}
    for member in members.values():
        member.subscribe("$share/g/t")
    sender = world.client("s")
    handled: list[bytes] = []
    for number, name in enumerate(order):
        sender.publish("t", bytes((number,)))
        if len(members) > 1 and name in members and data.draw(st.booleans()):
            members.pop(name).vanish()
        elif name in members:
            handled += _acknowledge_all(members[name])
    for member in members.values():
        handled += _acknowledge_all(member)
    assert sorted(handled) == [bytes((number,)) for number in range(len(order))]


def _acknowledge_all(peer: Peer) -> list[bytes]:
    messages = peer.messages()
    for message in messages:
        peer.send(packets.PubAck(message.packet_id))
    return [message.payload for message in messages]


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_no_bytes_of_a_client_raise(pieces: list[bytes]) -> None:
    world = World()
    peer = world.client("c")
    for piece in pieces:
        if not peer.connection.closing:
            peer.connection.receive(piece)
            world.settle()


@pytest.mark.parametrize("count", [1, 3])
def test_each_timer_fires_once_and_in_order(count: int) -> None:
    world = World()
    fired: list[float] = []
    for delay_s in (3.0, 1.0, 2.0)[:count]:
        world.core.timers.at(world.now_s + delay_s, fired.append)
    world.core.timers.at(world.now_s + 1.5, fired.append).cancel()
    world.advance(10)
    world.advance(10)
    assert fired == [1_010.0] * count


def test_a_shared_member_that_does_not_read_gives_its_messages_to_the_others() -> None:
    """Past its limit it is closed, and whatever it held goes to whoever does read."""
    world = World(max_queued_messages=5)
    lazy, eager = world.client("lazy", receive_maximum=3), world.client("eager", receive_maximum=100)
    lazy.subscribe("$share/g/t")
    sender = world.client("s")
    for number in range(8):
        sender.publish("t", bytes((number,)))
    assert not lazy.connection.closing
    eager.subscribe("$share/g/t")
    lazy.subscribe("t")
    sender.publish("t", b"too much")
    assert lazy.connection.closing
    assert eager.published() == [b"too much", *(bytes((number,)) for number in range(8))]
