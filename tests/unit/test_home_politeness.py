"""Words of politeness stand where a person would say them."""

from __future__ import annotations

import random

import msgspec
import pytest

from ops.home.imperatives import is_imperative
from ops.home.names import HELD_OUT, TRAIN
from ops.home.politeness import Politeness, is_interjection

COMMANDS = [
    "turn the lights off", "dim the lamp", "light up the hall", "lock the door", "vacuum the kitchen",
    "have the fan running", "tell me a joke", "close my blinds",
]  # fmt: skip
OTHERS = [
    "i'd like the lounge lights on", "kitchen lights on", "light in the hall", "it's too dark", "don't stop",
    "the door should be locked", "is the door locked", "have we locked up", "warm white in here", "",
]  # fmt: skip
# Of frames nobody has thought of yet, too.
NEED_A_COMMAND = [
    "may i ask you to", "could you", "let me just", "i would appreciate it if you would", "can you please",
    "do me a favor and", "let's", "would you kindly", "maybe you could", "i was hoping you'd",
    "you should probably", "so could you please", "help me out and", "just", "why don't we", "somebody",
    "be a dear and", "try to",
]  # fmt: skip
INTERJECTIONS = [
    "hey",
    "please",
    "quickly",
    "thank you",
    "excuse me",
    "oh and",
    "so please",
    "hey you",
    "good morning",
]


@pytest.mark.parametrize("text", COMMANDS)
def test_a_command_begins_with_its_verb(text: str) -> None:
    assert is_imperative(text)


@pytest.mark.parametrize("text", OTHERS)
def test_other_sentences_do_not(text: str) -> None:
    assert not is_imperative(text)


@pytest.mark.parametrize("frame", NEED_A_COMMAND)
def test_frames_that_wait_for_a_verb_are_told_by_their_words(frame: str) -> None:
    assert not is_interjection(frame)


@pytest.mark.parametrize("frame", INTERJECTIONS)
def test_interjections_are_too(frame: str) -> None:
    assert is_interjection(frame)


def said_around(
    text: str, before: tuple[str, ...], after: tuple[str, ...] = ("please",), **how: bool
) -> set[str]:
    """All that is said in front of and behind `text` in many tries."""
    names = msgspec.structs.replace(TRAIN, before=before, before_question=("hey", "tell me"), after=after)
    politeness, rng = Politeness(names), random.Random(1)
    return {politeness.around(text, rng, **how).replace(text, "…") for _ in range(600)}


def test_a_command_takes_any_frame_that_fits_a_verb() -> None:
    heard = said_around("turn it on", ("could you", "hey", "would you mind", "how about"))
    assert heard == {"…", "could you …", "hey …", "… please", "could you … please", "hey … please"}


def test_a_statement_takes_interjections_alone() -> None:
    heard = said_around("i'd like it on", ("could you", "um"), ("would you", "if you can", "thanks"))
    assert heard == {"…", "um …", "hey …", "… thanks", "um … thanks", "hey … thanks"}


def test_a_question_takes_what_stands_before_questions() -> None:
    assert said_around("is it on", ("could you", "um")) >= {"…", "hey …", "tell me …"}
    assert "could you …" not in said_around("is it on", ("could you", "um"))


def test_a_name_that_looks_like_a_verb_is_none() -> None:
    assert "could you …" in said_around("open kitchen lights on", ("could you",))
    assert "could you …" not in said_around("open kitchen lights on", ("could you",), names_first=True)


def test_free_words_at_the_end_are_followed_by_thanks_alone() -> None:
    heard = said_around("announce dinner is ready", ("um",), ("if you can", "thanks"), open_end=True)
    assert "… thanks" in heard
    assert not any("if you can" in text for text in heard)


@pytest.mark.parametrize("names", [TRAIN, HELD_OUT])
def test_there_is_much_to_say_before_and_after_anything(names) -> None:
    politeness, rng = Politeness(names), random.Random(2)
    assert len({politeness.around("it's dark", rng) for _ in range(2_000)}) > 10
