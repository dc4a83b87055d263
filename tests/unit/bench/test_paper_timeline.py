"""The time-line of one answer: what was in vain, where the time went, and the lines that are shown."""

from __future__ import annotations

import pytest

from ops.bench.paper.time_spent import excerpt, time_spent
from ops.bench.paper.timeline import ASK, LATE, REPLY, REWIND, Timeline
from shared.wire.codec import encode
from shared.wire.messages import DrawnToken, Step, Tokens


class Answer:
    """An answer's events at given milliseconds."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.timeline = Timeline(lambda: self.now_s)

    def forward(
        self, stage: int, position: int, from_ms: float, to_ms: float, token: int | None = None
    ) -> None:
        self.timeline.stage(stage, position, 100 + from_ms / 1e3, 100 + to_ms / 1e3, token)

    def ask(self, number: int, *positions: int, at_ms: float) -> None:
        self.now_s = 100 + at_ms / 1e3
        wants = [position - 1 for position in positions]
        self.timeline.sent(encode(Step(1, number, wants[0], wants[-1] - wants[0] + 1, b"rows", wants)))

    def reply(self, number: int, at_ms: float, **tokens: int) -> None:
        self.now_s = 100 + at_ms / 1e3
        drawn = [DrawnToken(int(key.strip("p")) - 1, token, 1.0) for key, token in tokens.items()]
        self.timeline.heard(encode(Tokens(1, number, drawn, compute_us=2000)))


@pytest.fixture
def answer() -> Answer:
    """Token 10 is asked about and refuted while 11 and 12 are drafted; 12 is confirmed after a wait."""
    answer = Answer()
    answer.forward(0, 10, 0, 10, token=7)
    answer.ask(1, 10, at_ms=10)
    answer.forward(0, 11, 11, 20, token=8)
    answer.ask(2, 11, at_ms=20)
    answer.forward(0, 12, 21, 30)
    answer.reply(1, 50, p10=99)
    answer.forward(0, 11, 51, 60, token=5)
    answer.forward(0, 12, 61, 70, token=6)
    answer.ask(3, 12, at_ms=70)
    answer.reply(2, 75, p11=1)
    answer.reply(3, 90, p12=6)
    return answer


def test_what_was_drafted_behind_a_refuted_guess_is_thrown_away(answer: Answer) -> None:
    timeline = answer.timeline
    thrown = [(event.position, event.at_ms) for event in timeline.forwards if timeline.is_thrown_away(event)]
    assert thrown == [(11, pytest.approx(11)), (12, pytest.approx(21))]
    assert [refuted.position for refuted in timeline.refuted] == [10]


def test_an_answer_about_a_text_that_is_no_more_refutes_nothing(answer: Answer) -> None:
    events = [event.what for event in answer.timeline if event.position is None]
    assert events == [ASK, ASK, REPLY, REWIND, ASK, LATE, REPLY]


def test_an_answer_that_is_said_twice_is_waited_for_once() -> None:
    answer = Answer()
    answer.forward(0, 10, 0, 10, token=7)
    answer.ask(1, 10, at_ms=10)
    answer.reply(1, 20, p10=7)
    answer.reply(1, 30, p10=7)
    assert [event.what for event in answer.timeline if event.position is None] == [ASK, REPLY, LATE]
    assert answer.timeline.refuted == []


def test_the_parts_of_an_answers_time_add_up_to_it(answer: Answer) -> None:
    spent = time_spent(answer.timeline, 95.0)
    assert spent.kept == pytest.approx(10 + 9 + 9)
    assert spent.thrown_away == pytest.approx(9 + 9)
    assert spent.refuted == pytest.approx(51 - 30), "nothing ran until the cloud said another token"
    assert spent.waited == pytest.approx(90 - 70)
    assert sum(spent) == pytest.approx(95.0)
    assert spent.in_vain == pytest.approx(18 + 21)


def test_several_tokens_of_one_answer_end_with_the_first_that_differs() -> None:
    answer = Answer()
    answer.forward(0, 10, 0, 10, token=7)
    answer.forward(0, 11, 10, 20, token=8)
    answer.ask(1, 10, 11, at_ms=20)
    answer.reply(1, 30, p10=99, p11=1)
    assert [refuted.position for refuted in answer.timeline.refuted] == [10]
    assert answer.timeline.asked == 2


def test_an_excerpt_shows_a_question_its_answer_and_the_rewind(answer: Answer) -> None:
    for number in range(20):
        answer.forward(0, 13 + number, 91 + number, 92 + number, token=1)
    table = excerpt("lines", answer.timeline, 8)
    assert table.title == "lines: lines 1 to 8 of 32"
    shown = [str(row["event"]) for row in table.rows]
    assert {ASK, REPLY, REWIND} <= set(shown)
    assert "token 11, thrown away" in [row["what"] for row in table.rows]


def test_an_excerpt_begins_where_a_guess_cost_something() -> None:
    answer = Answer()
    for number in range(30):
        answer.forward(0, 10 + number, number, number + 1, token=1)
    answer.ask(1, 39, at_ms=30)
    answer.forward(0, 40, 31, 32, token=2)
    answer.reply(1, 40, p39=99)
    answer.forward(0, 40, 41, 42, token=3)
    for number in range(30):
        answer.forward(0, 41 + number, 42 + number, 43 + number, token=1)
    rows = excerpt("lines", answer.timeline, 10).rows
    assert [row["event"] for row in rows][:6] == ["edge-1", "edge-1", ASK, "edge-1", REPLY, REWIND]


def test_all_lines_are_shown_where_they_are_wanted_or_few(answer: Answer) -> None:
    everything = excerpt("lines", answer.timeline, None)
    assert len(everything.rows) == len(answer.timeline.events)
    assert everything == excerpt("lines", answer.timeline, 1000)
