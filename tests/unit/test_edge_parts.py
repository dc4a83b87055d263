"""Small parts of the edge: exit policy, state log, text stream, prompt ledger, requests."""

from __future__ import annotations

import pytest

from edge_agent.exits import ExitPolicy
from edge_agent.prompts import MAX_PLACES, PromptKey, PromptLedger, ReplyTo
from edge_agent.request import Failure, decode_request
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
    assert ledger.answer(key) is None
    assert ledger.finish(key, b"answer", keep=True) == [PLACE]
    assert ledger.answer(key) == b"answer"
    assert ledger.in_hand == []


def test_an_answer_goes_to_every_place_that_asked_for_it_while_it_was_in_hand():
    ledger = PromptLedger()
    key = PromptKey(PANEL, "1")
    places = [PLACE, PLACE._replace(correlation_data=b"2"), ReplyTo("panel/inbox", b"2")]
    ledger.begin(key, places[0])
    for place in [*places, *places]:
        assert ledger.join(key, place)
    assert ledger.finish(key, b"answer", keep=True) == places


def test_the_places_of_one_prompt_are_bounded():
    ledger = PromptLedger()
    key = PromptKey(PANEL, "1")
    ledger.begin(key, PLACE)
    for number in range(1, MAX_PLACES):
        ledger.join(key, ReplyTo("panel/inbox", bytes([number])))
    with pytest.raises(BusyError, match="awaited in"):
        ledger.join(key, ReplyTo("panel/inbox", b"one more"))
    assert ledger.join(key, PLACE)
    assert len(ledger.finish(key, b"", keep=True)) == MAX_PLACES


def test_what_is_not_kept_may_be_tried_again():
    ledger = PromptLedger()
    key = PromptKey(PANEL, "1")
    ledger.begin(key, PLACE)
    ledger.finish(key, b"busy", keep=False)
    assert ledger.answer(key) is None
    assert not ledger.join(key, PLACE)


@pytest.mark.parametrize("bound", [{"max_kept": 2}, {"max_kept_bytes": 250}])
def test_kept_answers_are_bounded_in_number_and_bytes_and_the_oldest_goes_first(bound):
    ledger = PromptLedger(**bound)
    keys = [PromptKey(PANEL, str(number)) for number in range(3)]
    for key in keys:
        ledger.begin(key, PLACE)
        ledger.finish(key, bytes(100), keep=True)
    assert [ledger.answer(key) is None for key in keys] == [True, False, False]


def test_an_answer_over_the_whole_bound_is_not_kept():
    ledger = PromptLedger(max_kept_bytes=10)
    key = PromptKey(PANEL, "1")
    ledger.begin(key, PLACE)
    ledger.finish(key, bytes(11), keep=True)
    assert ledger.answer(key) is None


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
