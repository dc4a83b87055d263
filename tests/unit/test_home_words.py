"""Requests and names get one spelling, and the spelling is stable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.home.words import normalise


@pytest.mark.parametrize(
    ("said", "spelled"),
    [
        ("Turn ON the lights!", "turn on the lights"),
        ("dim it to thirty percent", "dim it to 30 percent"),
        ("set it to twenty-one degrees", "set it to 21 degrees"),
        ("21.5°", "21.5 degrees"),
        ("50%", "50 percent"),
        ("Emma’s lamp", "emma's lamp"),
        ("the one in the kitchen", "the one in the kitchen"),
        ("a timer for one hour", "a timer for 1 hour"),
        ("ring in two and a half hours", "ring in 2 and a half hours"),
        ("one and a half", "1 and a half"),
        ("one hundred percent", "100 percent"),
        ("1/2 an hour", "half an hour"),
        ("Küche   und\nBad", "küche und bad"),
        ("?!…", ""),
    ],
)
def test_speech_and_typing_get_one_spelling(said: str, spelled: str) -> None:
    assert normalise(said) == spelled


@given(st.text(max_size=80))
def test_spelling_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)
