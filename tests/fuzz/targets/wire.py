"""Edge and worker: messages, topics, presence."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from broker.group_reader import parts_of
from broker.presence import Status, read_status
from broker.transport import Incoming
from shared.errors import TopicError
from shared.wire import topics
from shared.wire.codec import decode_group, decode_to_edge, decode_to_worker, encode, encode_group
from shared.wire.group import Part
from shared.wire.messages import (
    Busy,
    Close,
    DrawnToken,
    Open,
    Opened,
    Refused,
    Resume,
    Sampling,
    Step,
    Tokens,
)
from shared.wire.topics import DeviceAddress, SessionAddress
from tests.fuzz.target import Target, same

ADDRESS = SessionAddress("home", "hub", "s-3f9c0a7be1d2c455")
PANEL = DeviceAddress("home", "panel")


def to_worker(data: bytes) -> None:
    message = decode_to_worker(data)
    same(lambda: decode_to_worker(encode(message)), message)


def to_edge(data: bytes) -> None:
    message = decode_to_edge(data)
    same(lambda: decode_to_edge(encode(message)), message)


def _messages_to_worker() -> list[bytes]:
    messages = [
        Open(1, "ab" * 32, "fp16", Sampling(0.7, 40, 0.9, 123)),
        Open(1 << 53, "d", "no-such-codec"),
        Step(1, 2, 30, 2, b"\x01\x02" * 8, [31], [[7, 9, 3000]]),
        Step(1, 3, 1 << 20, 1 << 20, b"", [1 << 20], []),
        Close(3),
        Close(3, elsewhere=True),
    ]
    nested = b"\x01\x92\xa1s" + b"\x91" * 900
    return [*map(encode, messages), nested, b"\x02" + encode(messages[0])[1:], b"\x01\x92\xa1\xff\x01"]


def _messages_to_edge() -> list[bytes]:
    messages = [
        Opened(1, "w-1", 0),
        Tokens(1, 2, [DrawnToken(31, 7, 0.25), DrawnToken(32, 8, 1.0)], 1500, 20, 3),
        Resume(1, 2, 5),
        Refused(1, "session", "open it again", retryable=True),
        Busy(1, 0.5),
    ]
    forged = b"\x01" + msgspec.msgpack.encode(["O", 1, "w/+/#", 0])
    return [*map(encode, messages), forged]


def group(data: bytes) -> None:
    """No part of a group leaves the topics of the edge whose group it is."""
    parts = parts_of(Incoming(topics.step_group_topic(ADDRESS.owner, "w-1"), data))
    for part in parts:
        if topics.parse_steps(part.topic).owner != ADDRESS.owner:
            raise AssertionError(f"{part.topic!r} is another edge's")
    decoded = decode_group(data)
    same(lambda: decode_group(encode_group(decoded)), decoded)


def _groups() -> list[bytes]:
    steps = [encode(Step(1, 2, 30, 2, b"\x01\x02" * 8, [31])), encode(Close(3))]
    parts = [Part(f"s-{at}", step) for at, step in enumerate(steps)]
    forged = b"\x01" + msgspec.msgpack.encode([["s/+/#", b""]])
    return [encode_group(parts), encode_group(parts[:1]), encode_group([]), forged]


def _rebuilt(topic: str) -> dict[Callable[[str], object], Callable[[], str]]:
    """For each reader of topics, how to build again what it read."""
    words = [*topic.split("/"), *[""] * 8]
    tenant, third, fourth = words[2], words[4], words[6:8]
    return {
        topics.parse_open: lambda: topics.open_topic(topics.parse_open(topic), third),
        topics.parse_steps: lambda: topics.steps_topic(topics.parse_steps(topic), third),
        topics.parse_reply: lambda: topics.reply_topic(SessionAddress(tenant, third, fourth[0])),
        topics.parse_worker_status: lambda: topics.worker_status_topic(tenant, third),
        topics.parse_edge_status: lambda: topics.edge_status_topic(tenant, third),
        topics.parse_prompt: lambda: topics.device_topic(topics.parse_prompt(topic), "prompt"),
        topics.parse_step_group: lambda: topics.step_group_topic(topics.parse_step_group(topic), third),
        topics.parse_reply_group: lambda: topics.reply_group_topic(topics.parse_reply_group(topic)),
    }


def any_topic(data: bytes) -> None:
    """A topic is read by one reader at most, and is what its ids build."""
    topic = data.decode(errors="surrogateescape")
    readers = [build for parse, build in _rebuilt(topic).items() if _reads(parse, topic)]
    if not readers:
        raise TopicError("no topic of ours")
    if len(readers) > 1:
        raise AssertionError(f"{topic!r} is read in {len(readers)} ways")
    same(readers[0], topic)


def _reads(parse: Callable[[str], object], topic: str) -> bool:
    try:
        parse(topic)
    except TopicError:
        return False
    return True


def _topics() -> list[bytes]:
    texts = [
        topics.open_topic(ADDRESS, topics.pool_of("home", "0123456789abcdef0123")),
        topics.steps_topic(ADDRESS, "w-1"),
        topics.reply_topic(ADDRESS),
        topics.step_group_topic(ADDRESS.owner, "w-1"),
        topics.reply_group_topic(ADDRESS.owner),
        topics.worker_status_topic("home", "w-1"),
        topics.edge_status_topic("home", "hub"),
        topics.device_topic(PANEL, "prompt"),
        topics.reply_topic(ADDRESS._replace(session="../+/#")),
    ]
    return [text.encode() for text in texts]


def response_topic(data: bytes) -> None:
    """What is honoured lies in the device's own subtree, is plain, and is not where prompts come in."""
    topic = data.decode(errors="surrogateescape")
    if not topics.own_subtree(PANEL, topic):
        raise TopicError("not the device's own")
    if topic.split("/")[:5] != topics.device_topic(PANEL, "x").split("/")[:5]:
        raise AssertionError(f"{topic!r} leaves the device's subtree")
    if set(topic) & set("+#\0\r\n") or topic == topics.device_topic(PANEL, "prompt"):
        raise AssertionError(f"{topic!r} is no plain topic of answers")


def _response_topics() -> list[bytes]:
    own = topics.device_topic(PANEL, "inbox/1")
    other = topics.device_topic(PANEL._replace(device="panel2"), "inbox")
    return [text.encode() for text in (own, other, own + "/#", own.replace("inbox", "prompt"), "$SYS/x")]


def status(data: bytes) -> None:
    heard = read_status(data)
    same(lambda: read_status(msgspec.json.encode(heard)), heard)


def _statuses() -> list[bytes]:
    full = Status(online=True, birth=1_795_236_058_506, bundle="home", digest="ab" * 32)
    lost = Status(online=False, birth=3, lost=True)
    nested = b'{"a":' + b"[" * 1000
    return [msgspec.json.encode(full), msgspec.json.encode(lost), nested, b'{"\xff":1}']


TARGETS = [
    Target("wire.to_worker", to_worker, _messages_to_worker),
    Target("wire.to_edge", to_edge, _messages_to_edge),
    Target("wire.group", group, _groups),
    Target("wire.topics", any_topic, _topics),
    Target("wire.response_topic", response_topic, _response_topics),
    Target("wire.status", status, _statuses),
]
