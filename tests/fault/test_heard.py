"""What is heard of an answer: lost, doubled and strange tokens are counted, and repeats are not."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.request import Request, TokenEvent
from ops.faults.heard import By, Heard

WORDS = ["a", "b", "c", "d"]


def answer(words: list[str] = WORDS) -> dict[str, Any]:
    return {"tokens": [{"text": word, "rung": "cloud", "degraded": False} for word in words]}


def heard(indices: list[int], by: By = "wire", words: list[str] = WORDS) -> Heard:
    made = Heard(Request("x"), by)
    for at_s, index in enumerate(indices):
        made.hear(TokenEvent("1", index, words[index % len(words)], "cloud"), float(at_s))
    made.take(answer())
    return made


@pytest.mark.parametrize(
    ("indices", "wrong"),
    [([0, 1, 2, 3], 0), ([0, 1, 3], 1), ([0, 1, 1, 2, 3], 1), ([], 4), ([0, 1, 2, 3, 4], 1)],
)
def test_every_token_has_to_come_exactly_once(indices: list[int], wrong: int) -> None:
    assert heard(indices).lost_or_doubled() == wrong


def test_a_token_that_the_answer_has_otherwise_counts() -> None:
    assert heard([0, 1, 2, 3], words=["a", "b", "x", "d"]).lost_or_doubled() == 1


def test_a_deaf_device_may_miss_tokens_but_not_have_them_twice() -> None:
    assert heard([0, 3], by="mqtt").lost_or_doubled(deaf=True) == 0
    assert heard([0, 3, 3], by="mqtt").lost_or_doubled(deaf=True) == 1
    assert heard([0, 3], by="wire").lost_or_doubled(deaf=True) == 2


def test_an_edge_that_died_begins_its_stream_again() -> None:
    assert heard([0, 1, 0, 1, 2, 3]).lost_or_doubled(begun_anew=True) == 0
    assert heard([0, 1, 0, 1, 2, 3]).lost_or_doubled() == 2


def test_the_same_answer_again_is_no_second_answer_and_another_one_is() -> None:
    repeated = heard([0, 1, 2, 3])
    repeated.take(answer())
    assert repeated.lost_or_doubled() == 0
    repeated.take(answer(["a", "b", "c", "x"]))
    assert repeated.lost_or_doubled() == 1


def test_the_longest_gap_is_between_two_tokens() -> None:
    made = Heard(Request("x"), "wire")
    for at_s in (1.0, 1.25, 4.0, 4.5):
        made.hear(TokenEvent("1", 0, "a"), at_s)
    assert made.longest_gap_s == pytest.approx(2.75)


def test_the_longest_wait_is_also_for_the_first_token_and_for_the_answer() -> None:
    for asked_s, answered_s, longest_s in ((0.0, 3.0, 1.0), (-2.0, 3.0, 3.0), (0.0, 6.5, 4.5)):
        made = Heard(Request("x"), "wire", asked_s=asked_s)
        for at_s in (1.0, 2.0):
            made.hear(TokenEvent("1", 0, "a"), at_s)
        made.take(answer(), answered_s)
        assert made.longest_wait_s == pytest.approx(longest_s)


def test_an_answer_that_comes_again_does_not_make_the_wait_longer() -> None:
    made = heard([0, 1, 2, 3])
    made.asked_s = 0.0
    made.take(answer(), 4.0)
    made.take(answer(), 40.0)
    assert made.longest_wait_s == pytest.approx(1.0)


def test_a_question_that_nobody_answers_has_no_wait_to_speak_of() -> None:
    assert Heard(Request("x"), "mqtt", asked_s=1.0).longest_wait_s == 0.0


def test_a_failure_is_no_answer() -> None:
    made = Heard(Request("x"), "mqtt")
    made.take({"id": "1", "error": {"code": "busy", "message": "ask again"}})
    assert made.answer is None
    assert "busy" in made.failure
