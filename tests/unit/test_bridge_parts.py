"""What waits for the other bus, and which retained messages were carried before; without network."""

from __future__ import annotations

import pytest

from broker.transport import Incoming
from edge_agent.held import MAX_HELD_BYTES, Held
from edge_agent.replays import MAX_TOPICS, Replays


def state(topic: str, payload: bytes = b"on", **fields: object) -> Incoming:
    return Incoming(topic, payload, 1, retain=True, **fields)  # type: ignore[arg-type]


def test_of_a_retained_topic_only_the_latest_waits_and_at_its_own_place() -> None:
    held = Held(lambda: 0.0)
    for incoming in (state("a", b"1"), Incoming("a", b"2", 1), state("b"), state("a", b"3")):
        held.put(incoming)
    assert held.has_state("a")
    assert [held.pop().incoming.payload for _ in range(len(held))] == [b"2", b"on", b"3"]
    assert (len(held), held.bytes, held.has_state("a")) == (0, 0, False)


def test_what_is_left_of_a_message_s_time_shrinks_while_it_waits() -> None:
    now_s = 100.0
    held = Held(lambda: now_s)
    held.put(state("a", expiry_s=10))
    held.put(state("b"))
    dated, endless = held.pop(), held.pop()
    assert [dated.left_s(now) for now in (100.0, 103.5, 110.0, 200.0)] == [10, 7, 0, -90]
    assert endless.left_s(1e9) is None


@pytest.mark.parametrize("where", ["topic", "payload", "user_properties"])
def test_every_part_of_a_message_counts_among_the_bytes(where: str) -> None:
    much = "x" * (MAX_HELD_BYTES + 1)
    parts = {"topic": much, "payload": much.encode(), "user_properties": (("k", much),)}
    held = Held(lambda: 0.0)
    held.put(Incoming(**{"topic": "a", "payload": b"", where: parts[where]}))  # type: ignore[arg-type]
    assert held.over


def test_a_replay_is_what_was_said_last_and_comes_first_on_a_new_connection() -> None:
    replays = Replays()
    assert not replays.hear(state("a"))
    assert not replays.hear(state("a"))
    replays.lost()
    assert replays.hear(state("a"))
    assert not replays.hear(state("a"))
    replays.lost()
    assert not replays.hear(state("a", b"off"))
    replays.lost()
    assert replays.hear(state("a", b"off"))


def test_what_was_not_carried_is_no_replay() -> None:
    replays = Replays()
    for topic in ("a", "b"):
        replays.hear(state(topic))
    replays.forget("a")
    replays.lost()
    assert [replays.hear(state(topic)) for topic in ("a", "b")] == [False, True]
    replays.forget()
    replays.lost()
    assert not replays.hear(state("b"))


def test_topics_are_remembered_up_to_a_bound_the_latest_heard_ones() -> None:
    replays = Replays()
    for number in range(MAX_TOPICS + 1):
        replays.hear(state(str(number)))
    replays.lost()
    assert replays.hear(state(str(MAX_TOPICS)))
    assert not replays.hear(state("0"))
    assert len(replays._heard) == MAX_TOPICS
