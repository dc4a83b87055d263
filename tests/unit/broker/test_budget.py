"""The memory of all queues: counted to the byte, whatever becomes of messages, and never over its bound."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from broker.embedded import packets
from broker.embedded.budget import Budget
from broker.embedded.encoding import encode
from broker.embedded.message import Message
from broker.embedded.packets import MQTT_5, Publish
from broker.embedded.properties import Properties
from broker.embedded.reasons import Reason
from broker.embedded.session import Delivery, Session
from tests.unit.broker.test_core import Peer, World

TOTAL = 20_000
NAMES = ["a", "b", "c"]


def held(world: World) -> int:
    """What the budget should say, counted anew from the sessions' queues."""
    sessions: list[Session] = list(world.core.registry._sessions.values())
    kept = {each: None for one in sessions for each in (*one._waiting[0], *one._waiting[1])}
    kept |= {each: None for one in sessions for each in one._unacknowledged.values()}
    messages = {id(each.message): each.message.size_bytes for each in kept}
    return sum(messages.values()) + 192 * len(kept)


class Crowd:
    """Clients that come, go, read and acknowledge at will."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.here: dict[str, Peer] = {}
        self.sender = world.client("sender")

    def step(self, kind: str, name: str, size: int) -> None:
        peer = self.here.get(name)
        if kind == "publish":
            self.sender.publish("t" if size % 2 else f"t/{name}", bytes(size), qos=size % 3 and 1)
        elif peer is None or peer.connection.closing:
            self.here[name] = peer = self.world.client(name, expiry_s=600 if kind == "keep" else 0)
            peer.subscribe("t")
            peer.subscribe(f"$share/g/t/{name}" if size % 5 == 0 else f"t/{name}")
        elif kind == "leave":
            self.here.pop(name).vanish()
        elif kind == "pause":
            peer.connection.paused = size % 2 == 0
            peer.connection.pump()
        else:
            for message in peer.messages()[: size % 4]:
                peer.send(packets.PubAck(message.packet_id or 1))


STEPS = st.tuples(
    st.sampled_from(["publish", "publish", "publish", "keep", "leave", "pause", "acknowledge"]),
    st.sampled_from(NAMES),
    st.integers(0, 9_000),
)


@given(st.lists(STEPS, max_size=40))
def test_the_total_is_what_sessions_hold_and_never_over_its_bound(steps: list[tuple[str, str, int]]) -> None:
    world = World(max_total_queued_bytes=TOTAL, max_inflight=3, max_queued_messages=8)
    crowd = Crowd(world)
    for step in steps:
        crowd.step(*step)
        assert world.core.registry.budget.total_bytes == held(world) <= TOTAL
    world.advance(10_000)
    for peer in crowd.here.values():
        peer.vanish()
    world.advance(10_000)
    assert world.core.registry.budget.total_bytes == held(world)
    assert len(world.core.registry) == 1  # the sender's


def test_a_session_that_ends_gives_back_what_it_held() -> None:
    world = World()
    peer = world.client("c", expiry_s=60)
    peer.subscribe("a")
    sender = world.client("s")
    sender.publish("a", b"unacknowledged")
    peer.vanish()
    sender.publish("a", b"waits")
    assert world.core.registry.budget.total_bytes == held(world) > 0
    world.advance(61)
    assert world.core.registry.budget.total_bytes == 0


def test_a_message_larger_than_the_total_is_no_reason_for_others_to_give_way() -> None:
    world = World(max_total_queued_bytes=TOTAL)
    for name in NAMES:
        peer = world.client(name, expiry_s=60)
        peer.subscribe(name)
        peer.vanish()
    sender = world.client("s")
    for name in NAMES[:2]:
        sender.publish(name, bytes(3_000))
    before = world.core.registry.budget.total_bytes
    sender.publish("c", bytes(TOTAL))
    assert world.core.registry.budget.total_bytes == before


def test_what_is_to_be_sent_again_does_not_pile_up_over_connections() -> None:
    """A client that comes and goes without reading: its queue holds each message once."""
    world = World(max_inflight=4, max_write_buffer_bytes=1)
    world.client("c", expiry_s=60).subscribe("a")
    sender = world.client("s")
    for number in range(4):
        sender.publish("a", bytes((number,)))
    session = world.core.registry._sessions["c"]
    for _ in range(5):
        world.client("c", expiry_s=60)
    assert session.waiting <= 4


def test_an_answer_to_an_earlier_connection_s_message_keeps_it_from_being_sent_again() -> None:
    world = World()
    first = world.client("c", expiry_s=60)
    first.subscribe("a")
    sender = world.client("s")
    sender.publish("a", b"one")
    [message] = first.messages()
    session = world.core.registry._sessions["c"]
    first.connection.paused = True
    first.vanish()
    again = world.client("c", expiry_s=60, receive_maximum=1)
    again.send(packets.PubAck(message.packet_id))
    assert world.core.registry.budget.total_bytes == held(world) == 0
    assert session.waiting == 0


def test_a_packet_full_of_user_properties_is_read_in_time_that_grows_with_its_length() -> None:
    """Two hundred thousand took minutes when each was added to a new tuple."""
    pairs = Properties(user_property=(("", ""),) * 200_000)
    frame = encode(Publish("a", b"", properties=pairs), MQTT_5)
    peer = World(max_packet_bytes=len(frame)).client("c")
    began_s = time.process_time()
    peer.connection.receive(frame)
    assert time.process_time() - began_s < 20
    assert not peer.connection.closing


def test_a_will_s_user_properties_count_as_the_objects_that_they_are() -> None:
    world = World()
    will = packets.Will("gone", b"", properties=Properties(user_property=(("", ""),) * 200))
    assert world.client("c", will=will).connack.reason is Reason.QUOTA_EXCEEDED


class Hoarder:
    """Holds messages and gives none of them back."""

    def give_way(self) -> None:
        pass


def of_size(size: int) -> Delivery:
    return Delivery(Message("t", bytes(size), 0, False, "sender"), 0)


def test_room_that_nobody_makes_is_refused_and_not_waited_for() -> None:
    hoarder: Any = Hoarder()
    budget = Budget(TOTAL)
    budget.hold(hoarder, of_size(TOTAL // 2))
    assert budget.make_room(of_size(10))
    assert not budget.make_room(of_size(TOTAL // 2))
