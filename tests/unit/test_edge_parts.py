"""Small parts of the edge: exit policy, state log, text stream, prompt ledger, requests."""

from __future__ import annotations

import pytest

from edge_agent.exits import ExitPolicy
from edge_agent.prompts import MAX_PLACES, PromptKey, PromptLedger, ReplyTo
from edge_agent.request import Failure, Request, decode_request
from edge_agent.states import StateLog
from edge_agent.text_stream import TextStream
from shared.errors import BusyError, ConfigError, PromptError
from shared.wire.topics import DeviceAddress


def test_one_threshold_stands_for_all_exits_and_wrong_ones_are_named():
    assert ExitPolicy.of([0.7], 3).thresholds == (0.7, 0.7, 0.7)
    with pytest.raises(ConfigError, match="2 thresholds for 3 exits"):
        ExitPolicy.of([0.7, 0.8], 3)
    with pytest.raises(ConfigError, match="not a probability"):
        ExitPolicy.of([1.5], 1)


def test_the_state_log_slices_by_position():
    log = StateLog(2)
    log.append(b"aabbcc")
    assert (log.frontier, log.rows(1, 3)) == (3, b"bbcc")


def test_a_character_of_several_tokens_appears_whole_with_its_last_token():
    data = "aé🙂 b".encode()
    stream = TextStream(lambda ids: bytes(ids).decode(errors="replace"))
    pieces = [stream.add(byte) for byte in data]
    assert "".join(pieces) == "aé🙂 b" == stream.text()
    assert pieces == ["a", "", "é", "", "", "", "🙂", " ", "b"]


PANEL = DeviceAddress("home", "panel")
PLACE = ReplyTo("panel/answer")


def test_a_prompt_is_worked_on_once_and_its_answer_repeated():
    ledger = PromptLedger()
    key = PromptKey(PANEL, "1")
    assert not ledger.join(key, PLACE)
    ledger.begin(key, PLACE)
    assert ledger.in_hand == [key]
    assert ledger.join(key, PLACE)
    assert ledger.answer(key, 0.0) is None
    assert ledger.finish(key, b"answer", 0.0, keep=True) == [PLACE]
    assert ledger.answer(key, 0.0) == b"answer"
    assert ledger.in_hand == []


@pytest.mark.parametrize(
    "other",
    [
        Request("unlock the door", id="1"),
        Request("turn on the lights", id="1", seed=1),
        Request("turn on the lights", id="1", mode="exact"),
        Request("turn on the lights", id="2"),
    ],
)
def test_another_request_is_another_prompt_whatever_its_id(other: Request):
    first = PromptKey.of(PANEL, Request("turn on the lights", id="1"))
    assert PromptKey.of(PANEL, other) != first
    assert PromptKey.of(PANEL._replace(device="door"), Request("turn on the lights", id="1")) != first


def test_a_request_is_the_same_prompt_with_and_without_its_stream_and_what_it_leaves_out():
    plain = PromptKey.of(PANEL, Request("x", id="1"))
    assert PromptKey.of(PANEL, Request("x", id="1", stream=True)) == plain
    assert (
        PromptKey.of(PANEL, decode_request(b'{"id": "1", "unknown": 5, "prompt": "x", "seed": 0}')) == plain
    )


def test_two_prompts_of_one_id_are_not_worked_on_at_once():
    ledger = PromptLedger()
    lights, door = (PromptKey.of(PANEL, Request(text, id="1")) for text in ("lights", "door"))
    ledger.begin(lights, PLACE)
    ledger.check_name(lights)
    ledger.check_name(door._replace(id="2"))
    ledger.check_name(door._replace(device=PANEL._replace(device="other")))
    with pytest.raises(PromptError, match="'1' is being worked on"):
        ledger.check_name(door)
    ledger.finish(lights, b"on", 0.0, keep=True)
    ledger.check_name(door)


def test_the_answers_of_both_prompts_of_an_id_are_kept():
    """A late copy of the first one is not worked on again, though the id has had another prompt since."""
    ledger = PromptLedger()
    lights, door = (PromptKey.of(PANEL, Request(text, id="1")) for text in ("lights", "door"))
    for key, answer in ((lights, b"on"), (door, b"open")):
        assert ledger.answer(key, 0.0) is None
        ledger.begin(key, PLACE)
        ledger.finish(key, answer, 0.0, keep=True)
    assert [ledger.answer(key, 0.0) for key in (lights, door)] == [b"on", b"open"]


def test_a_kept_answer_is_forgotten_when_it_is_too_old_and_its_room_is_free_again():
    ledger = PromptLedger(max_kept_bytes=250, kept_s=10.0)
    keys = [PromptKey(PANEL, str(number)) for number in range(4)]
    for when_s, key in enumerate(keys[:2]):
        ledger.finish(key, bytes(100), float(when_s), keep=True)
    assert ledger.answer(keys[0], 9.9) is not None
    assert [ledger.answer(key, 10.0) is None for key in keys[:2]] == [True, False]
    assert [ledger.answer(key, 11.0) is None for key in keys[:2]] == [True, True]
    for key in keys[2:]:
        ledger.finish(key, bytes(100), 11.0, keep=True)
    assert [ledger.answer(key, 11.0) is None for key in keys[2:]] == [False, False]


def test_an_answer_goes_to_every_place_that_asked_for_it_while_it_was_in_hand():
    ledger = PromptLedger()
    key = PromptKey(PANEL, "1")
    places = [PLACE, PLACE._replace(correlation_data=b"2"), ReplyTo("panel/inbox", b"2")]
    ledger.begin(key, places[0])
    for place in [*places, *places]:
        assert ledger.join(key, place)
    assert ledger.finish(key, b"answer", 0.0, keep=True) == places


def test_the_places_of_one_prompt_are_bounded():
    ledger = PromptLedger()
    key = PromptKey(PANEL, "1")
    ledger.begin(key, PLACE)
    for number in range(1, MAX_PLACES):
        ledger.join(key, ReplyTo("panel/inbox", bytes([number])))
    with pytest.raises(BusyError, match="awaited in"):
        ledger.join(key, ReplyTo("panel/inbox", b"one more"))
    assert ledger.join(key, PLACE)
    assert len(ledger.finish(key, b"", 0.0, keep=True)) == MAX_PLACES


def test_what_is_not_kept_may_be_tried_again():
    ledger = PromptLedger()
    key = PromptKey(PANEL, "1")
    ledger.begin(key, PLACE)
    ledger.finish(key, b"busy", 0.0, keep=False)
    assert ledger.answer(key, 0.0) is None
    assert not ledger.join(key, PLACE)


@pytest.mark.parametrize("bound", [{"max_kept": 2}, {"max_kept_bytes": 250}])
def test_kept_answers_are_bounded_in_number_and_bytes_and_the_oldest_goes_first(bound):
    ledger = PromptLedger(**bound)
    keys = [PromptKey(PANEL, str(number)) for number in range(3)]
    for key in keys:
        ledger.begin(key, PLACE)
        ledger.finish(key, bytes(100), 0.0, keep=True)
    assert [ledger.answer(key, 0.0) is None for key in keys] == [True, False, False]


def test_an_answer_over_the_whole_bound_is_not_kept():
    ledger = PromptLedger(max_kept_bytes=10)
    key = PromptKey(PANEL, "1")
    ledger.begin(key, PLACE)
    ledger.finish(key, bytes(11), 0.0, keep=True)
    assert ledger.answer(key, 0.0) is None


def test_a_failure_can_always_be_sent_and_an_unforeseen_one_may_be_tried_again():
    assert Failure.of("1", PromptError("no \udc80")).error.message == "no ?"
    unforeseen = Failure.of("1", ValueError("the prompt's own words")).error
    assert unforeseen.code == "internal"
    assert unforeseen.retryable
    assert "words" not in unforeseen.message


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"turn on",
        b"[]",
        b'{"text": "x"}',
        b'{"prompt": ""}',
        b'{"prompt": 3}',
        b"\xff\xfe",
        b"[" * 5000,
        b'{"prompt": "x", "temperature": -1}',
        b'{"prompt": "x", "mode": "fast"}',
    ],
)
def test_what_is_not_a_request_gets_a_sentence_that_shows_one(payload):
    with pytest.raises(PromptError, match="turn on the kitchen lights"):
        decode_request(payload)
