"""Several wishes in one request are joined as people join them."""

from __future__ import annotations

import pytest

from ops.home.joining import is_of_one, may_follow, may_lead


@pytest.mark.parametrize(
    "text",
    [
        "turn the tv off", "i'd like the lamp on", "could we have the fans on", "lamp off",
        "i'm going to bed so lock the door", "the show is over switch the tv off",
    ],
)  # fmt: skip
def test_wishes_lead_on_to_others(text: str) -> None:
    assert may_lead(text)


@pytest.mark.parametrize(
    "text",
    ["how about turning the tv off", "would you mind locking up", "any chance of light", "my hall is dusty"],
)
def test_what_another_verb_cannot_go_on_from_does_not(text: str) -> None:
    assert not may_lead(text)


@pytest.mark.parametrize("text", ["turn the tv off", "lock the door", "make it warmer in the hall"])
def test_commands_follow(text: str) -> None:
    assert may_follow(text, "i'd like the lamp on", name_first=False)


@pytest.mark.parametrize(
    "text",
    [
        "i'd like the lamp on", "is the door locked", "would you mind locking up",
        "do me a favor and lock up", "it's too dark", "set it to 19 degrees", "please lock up",
    ],
)  # fmt: skip
def test_questions_statements_and_politeness_do_not_follow(text: str) -> None:
    assert not may_follow(text, "turn the tv off", name_first=False)


def test_a_thing_and_its_state_follow_the_same() -> None:
    assert may_follow("tv off", "desk lamp on", name_first=True)
    assert not may_follow("tv should be off", "desk lamp on", name_first=True)
    assert not may_follow("tv off", "desk lamp needs to be on", name_first=True)


def test_words_for_one_thing_are_not_said_of_two() -> None:
    assert is_of_one("turn that on,")
    assert is_of_one("the  is too bright")
    assert not is_of_one("turn the  on")
