"""Every message class, found by itself: round trip, truncation, size, version, random bytes."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import MessageTooLargeError, TopicError, UnknownVersionError, WireError
from shared.wire import messages, topics
from shared.wire.codec import MAX_MESSAGE_BYTES, WIRE_VERSION, decode_to_edge, decode_to_worker, encode
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

EXAMPLES = [
    Open(1, "ab" * 4, "fp16", Sampling(0.7, 40, 0.9, 123)),
    Step(1, 2, 30, 2, b"\x01\x02" * 8, [31], [[7, 9, 3000]]),
    Close(3),
    Opened(1, "w-1", 0),
    Tokens(1, 2, [DrawnToken(31, 7, 0.25)], 1500, 20, 3),
    Resume(1, 2, 5),
    Refused(1, "session", "open it again", retryable=True),
    Busy(1, 0.5),
]
# What the first release wrote for EXAMPLES; a build that reads these differently has changed the wire.
GOLDEN = [
    "0195a16f01a86162616261626162a46670313694cb3fe666666666666628cb3feccccccccccccd7b",  # Open
    "0198a17301021e02c41001020102010201020102010201020102911f91930709cd0bb8",  # Step
    "0192a16303",  # Close
    "0194a14f01a3772d3100",  # Opened
    "0197a154010291931f07cb3fd0000000000000cd05dc1403",  # Tokens
    "0194a152010205",  # Resume
    "0195a15801a773657373696f6ead6f70656e20697420616761696ec3",  # Refused
    "0193a14201cb3fe0000000000000",  # Busy
]


def decode(message, payload: bytes):
    to_worker = isinstance(message, Open | Step | Close)
    return decode_to_worker(payload) if to_worker else decode_to_edge(payload)


def test_every_tagged_message_class_has_an_example():
    tagged = {
        cls
        for cls in vars(messages).values()
        if isinstance(cls, type) and issubclass(cls, msgspec.Struct) and cls.__struct_config__.tag is not None
    }
    assert tagged == {type(example) for example in EXAMPLES}


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_round_trip(message):
    assert decode(message, encode(message)) == message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_every_truncation_is_refused_as_the_peers_fault(message):
    payload = encode(message)
    for end in range(len(payload)):
        with pytest.raises(WireError):
            decode(message, payload[:end])


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_an_appended_field_of_a_later_release_is_ignored(message):
    body = msgspec.msgpack.decode(encode(message)[1:])
    assert decode(message, bytes([WIRE_VERSION]) + msgspec.msgpack.encode([*body, "new"])) == message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_another_version_is_refused_by_name(message):
    with pytest.raises(UnknownVersionError, match="same release"):
        decode(message, b"\x07" + encode(message)[1:])


@pytest.mark.parametrize(("message", "golden"), list(zip(EXAMPLES, GOLDEN, strict=True)), ids=lambda _: "")
def test_golden_bytes_of_the_first_release_still_decode_and_what_is_written_only_appends(message, golden):
    assert decode(message, bytes.fromhex(golden)) == message
    then, now = (msgspec.msgpack.decode(each[1:]) for each in (bytes.fromhex(golden), encode(message)))
    assert now[: len(then)] == then


def test_a_step_from_before_grammars_is_read_as_allowing_everything():
    golden = "0197a17301021e02c41001020102010201020102010201020102911f"
    step = decode_to_worker(bytes.fromhex(golden))
    assert isinstance(step, Step)
    assert (step.wants, step.allowed) == ([31], [])


def test_oversized_messages_are_refused_before_they_are_decoded():
    with pytest.raises(MessageTooLargeError):
        decode_to_worker(bytes([WIRE_VERSION]) + bytes(MAX_MESSAGE_BYTES))


@pytest.mark.parametrize(
    "bad",
    [
        Step(0, 1, 0, 1, b""),
        Step(1, 1, -1, 1, b""),
        Step(1, 1, 0, 0, b""),
        Step(1, 1, 0, 1, b"", [0] * 2000),
        Open(1, "d" * 1000, "fp16"),
        Open(1, "d", "fp16", Sampling(float("nan"))),
    ],
)
def test_fields_out_of_bounds_are_refused(bad):
    with pytest.raises(WireError):
        decode_to_worker(encode(bad))


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_wire_errors(payload):
    for reader in (decode_to_worker, decode_to_edge):
        for data in (payload, bytes([WIRE_VERSION]) + payload):
            with contextlib.suppress(WireError):
                reader(data)


ids = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)


@given(ids, ids, ids, ids)
def test_topics_are_taken_apart_as_they_were_built(tenant, edge, session, other):
    address = topics.SessionAddress(tenant, edge, session)
    assert topics.parse_open(topics.open_topic(address, other)) == address
    assert topics.parse_steps(topics.steps_topic(address, other)) == address
    assert topics.parse_reply(topics.reply_topic(address)) == address
    assert topics.parse_worker_status(topics.worker_status_topic(tenant, other)) == other
    device = topics.DeviceAddress(tenant, other)
    assert topics.parse_prompt(topics.device_topic(device, "prompt")) == device


@given(st.text(max_size=200))
def test_foreign_topics_are_refused(text):
    for parse in (topics.parse_open, topics.parse_steps, topics.parse_reply, topics.parse_prompt):
        with pytest.raises(TopicError):
            parse(text)


def test_a_response_topic_outside_the_devices_subtree_is_not_its_own():
    device = topics.DeviceAddress("home", "panel")
    base = topics.device_topic(device, "inbox")
    assert topics.own_subtree(device, base)
    for hostile in (
        topics.device_topic(topics.DeviceAddress("home", "other"), "answer"),
        topics.device_topic(device, "prompt"),
        base + "/#",
        "antiphon/v1/home/worker/w1/steps/hub/s",
        base.removesuffix("inbox"),
    ):
        assert not topics.own_subtree(device, hostile)
