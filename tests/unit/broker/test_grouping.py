"""What is ready together travels together, within the wire's bounds, and is received as if alone."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.group_reader import GroupReader, parts_of, singles
from broker.group_sender import GroupSender, Letter, groups_of
from broker.transport import Incoming
from shared.errors import TopicError, WireError
from shared.wire import topics
from shared.wire.codec import decode_group, encode_group
from shared.wire.group import MAX_GROUP_BYTES, MAX_PARTS, Part
from shared.wire.topics import EdgeAddress, SessionAddress

HUB = EdgeAddress("home", "hub")
REPLIES = topics.reply_group_topic(HUB)
STEPS = topics.step_group_topic(HUB, "w1")


class Line:
    """A transport that remembers what was sent; `full` and `connected` are the test's to set."""

    def __init__(self) -> None:
        self.connected = True
        self.full = False
        self.sent: list[tuple[str, bytes]] = []

    def publish_soon(self, topic: str, payload: bytes) -> bool:
        if not self.full:
            self.sent.append((topic, payload))
        return not self.full

    def flush(self) -> None:
        """Everything is written already."""


def letter(session: str, payload: bytes = b"x") -> Letter:
    return Letter(topics.reply_topic(SessionAddress("home", "hub", session)), session, payload)


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def unsent() -> list[Letter]:
    return []


@pytest.fixture
def sender(line: Line, unsent: list[Letter]) -> GroupSender:
    return GroupSender(line, unsent.append)  # type: ignore[arg-type]


async def test_what_is_ready_in_one_turn_goes_as_one_message_at_its_end(line: Line, sender: GroupSender):
    for name in ("a", "b", "c"):
        assert sender.send(REPLIES, letter(name, name.encode()))
    assert line.sent == []
    await asyncio.sleep(0)
    assert line.sent == [(REPLIES, encode_group([Part(name, name.encode()) for name in ("a", "b", "c")]))]


async def test_a_message_that_is_alone_travels_on_its_own_topic_in_its_own_format(
    line: Line, sender: GroupSender
):
    sender.send(REPLIES, letter("a", b"first"))
    await asyncio.sleep(0)
    sender.send(REPLIES, letter("a", b"second"))
    await asyncio.sleep(0)
    assert line.sent == [(letter("a").topic, b"first"), (letter("a").topic, b"second")]


async def test_each_peer_has_a_group_of_its_own(line: Line, sender: GroupSender):
    for group_topic in ("to/one", "to/other"):
        for name in ("a", "b"):
            sender.send(group_topic, letter(name))
    await asyncio.sleep(0)
    assert [topic for topic, _ in line.sent] == ["to/one", "to/other"]


async def test_flush_sends_before_the_turn_is_over_and_the_end_of_the_turn_sends_nothing_twice(
    line: Line, sender: GroupSender
):
    sender.send(REPLIES, letter("a"))
    sender.flush()
    assert len(line.sent) == 1
    await asyncio.sleep(0)
    assert len(line.sent) == 1


async def test_without_a_connection_the_caller_is_told_at_once(line: Line, sender: GroupSender, unsent):
    line.connected = False
    assert not sender.send(REPLIES, letter("a"))
    await asyncio.sleep(0)
    assert (line.sent, unsent) == ([], [])


async def test_every_session_whose_message_the_line_did_not_take_is_told(
    line: Line, sender: GroupSender, unsent: list[Letter]
):
    line.full = True
    letters = [letter("a"), letter("b"), letter("c")]
    for each in letters:
        assert sender.send(REPLIES, each)
    await asyncio.sleep(0)
    assert unsent == letters


sizes = st.lists(st.integers(0, 2 * MAX_GROUP_BYTES), max_size=20) | st.lists(st.integers(0, 9), max_size=300)


@given(sizes)
def test_groups_keep_order_and_bounds_and_only_a_message_alone_may_be_larger(payload_sizes: list[int]):
    letters = [letter("s" * 64, bytes(size)) for size in payload_sizes]
    groups = list(groups_of(letters))
    assert [each for group in groups for each in group] == letters
    for group in groups:
        assert 1 <= len(group) <= MAX_PARTS
        if len(group) > 1:
            parts = [Part(each.session, each.payload) for each in group]
            assert decode_group(encode_group(parts)) == parts


def test_groups_are_not_cut_smaller_than_they_need_to_be():
    assert [len(group) for group in groups_of([letter("a")] * 100)] == [MAX_PARTS, 100 - MAX_PARTS]
    third = bytes(MAX_GROUP_BYTES // 3)
    assert [len(group) for group in groups_of([letter("a", third)] * 4)] == [2, 2]
    assert [len(group) for group in groups_of([letter("a")] * 3, max_parts=1)] == [1, 1, 1]


def test_parts_come_out_with_the_topics_on_which_they_would_have_come_alone():
    group = encode_group([Part("s1", b"one"), Part("s2", b"two")])
    alone = [SessionAddress("home", "hub", "s1"), SessionAddress("home", "hub", "s2")]
    steps = [part.topic for part in parts_of(Incoming(STEPS, group))]
    assert steps == [topics.steps_topic(address, "w1") for address in alone]
    replies = parts_of(Incoming(REPLIES, group))
    assert [part.topic for part in replies] == [topics.reply_topic(address) for address in alone]
    assert [part.payload for part in replies] == [b"one", b"two"]


@given(st.text(max_size=70))
def test_no_session_id_leads_out_of_the_edge_s_own_topics(session: str):
    """The confused deputy: whoever may write a group may speak for that edge's sessions only."""
    for group_topic, parse in ((STEPS, topics.parse_steps), (REPLIES, topics.parse_reply)):
        try:
            (part,) = parts_of(Incoming(group_topic, encode_group([Part(session, b"")])))
        except WireError:
            continue
        assert parse(part.topic) == SessionAddress("home", "hub", session)


@pytest.mark.parametrize(
    "topic",
    [
        topics.steps_topic(SessionAddress("home", "hub", "s1"), "w1"),
        topics.reply_topic(SessionAddress("home", "hub", "s1")),
        topics.worker_status_topic("home", "w1"),
        "antiphon/v1/home/edge/hub/+/replies",
        "replies",
    ],
)
def test_a_topic_of_single_messages_is_no_group_s(topic: str):
    with pytest.raises(TopicError):
        parts_of(Incoming(topic, encode_group([Part("s1", b"")])))


ids = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)


@given(ids, ids, ids)
def test_group_topics_are_taken_apart_as_they_were_built(tenant: str, edge: str, worker: str):
    owner = EdgeAddress(tenant, edge)
    assert topics.parse_step_group(topics.step_group_topic(owner, worker)) == owner
    assert topics.parse_reply_group(topics.reply_group_topic(owner)) == owner


def test_an_edge_or_session_called_like_a_word_of_the_tree_is_not_mistaken():
    edge = EdgeAddress("home", "replies")
    (part,) = parts_of(Incoming(topics.step_group_topic(edge, "w"), encode_group([Part("replies", b"")])))
    assert topics.parse_steps(part.topic) == SessionAddress("home", "replies", "replies")


def test_a_malformed_group_reaches_nobody_and_a_broken_message_stops_no_other():
    heard: list[bytes] = []

    def handler(incoming: Incoming) -> None:
        if incoming.payload == b"bad":
            raise ValueError("this one's own fault")
        heard.append(incoming.payload)

    reader = GroupReader(handler)
    good = encode_group([Part("a", b"1"), Part("b", b"bad"), Part("c", b"3")])
    for payload in (
        b"",
        b"\x01",
        b"\x02" + good[1:],
        good[:-1],
        b"\x01\xc0",
        b"\x01\x90",
        bytes(MAX_GROUP_BYTES + 1),
    ):
        reader(Incoming(REPLIES, payload))
    assert heard == []
    reader(Incoming(REPLIES, good))
    assert heard == [b"1", b"3"]


def test_a_watcher_sees_single_messages_whichever_way_they_came():
    alone = Incoming(topics.reply_topic(SessionAddress("home", "hub", "s1")), b"one")
    group = Incoming(REPLIES, encode_group([Part("s1", b"one"), Part("s2", b"two")]))
    assert singles(alone) == [alone]
    assert singles(group)[0] == alone
    assert len(singles(group)) == 2
