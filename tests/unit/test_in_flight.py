"""The steps that are waited for, and their clocks."""

from __future__ import annotations

import pytest

from edge_agent.in_flight import FEW_ROWS, InFlight
from edge_agent.reply_time import ReplyTime
from edge_agent.uplink import Uplink
from shared.wire.messages import Step

DEADLINE_S = 1.0
BYTES = 4_096


def step(number: int, *wants: int) -> Step:
    return Step(1, number, wants[0], wants[-1] + 1 - wants[0], b"", list(wants))


@pytest.fixture
def reply_time() -> ReplyTime:
    return ReplyTime(mean_s=0.1, deviation_s=0.025)


@pytest.fixture
def uplink() -> Uplink:
    return Uplink()


@pytest.fixture
def in_flight(reply_time: ReplyTime, uplink: Uplink) -> InFlight:
    return InFlight(reply_time, uplink)


def test_nothing_is_due_while_nothing_is_waited_for(in_flight: InFlight):
    assert not in_flight
    assert in_flight.due_s is None
    assert in_flight.again(9.0) == []


def test_a_token_is_wanted_of_the_step_that_asked_for_it_once(in_flight: InFlight):
    in_flight.add(step(2, 5, 6), 2, BYTES, DEADLINE_S, 0.0)
    assert in_flight.is_unanswered(2, 5)
    assert not in_flight.is_unanswered(1, 5)
    assert not in_flight.is_unanswered(2, 7)
    in_flight.settle(2, 5, 0.1)
    assert not in_flight.is_unanswered(2, 5)
    assert in_flight.is_unanswered(2, 6)
    in_flight.settle(2, 6, 0.1)
    assert not in_flight


def test_what_is_taken_back_is_not_wanted_any_more(in_flight: InFlight):
    in_flight.add(step(1, 5, 6), 2, BYTES, DEADLINE_S, 0.0)
    in_flight.add(step(2, 7), 1, BYTES, DEADLINE_S, 0.0)
    in_flight.rewind(6)
    assert in_flight.is_unanswered(1, 5)
    assert not in_flight.is_unanswered(1, 6)
    assert not in_flight.is_unanswered(2, 7)
    in_flight.rewind(5)
    assert not in_flight


def test_each_late_step_goes_up_again_after_twice_the_wait_and_then_its_worker_is_left(
    in_flight: InFlight,
):
    first, second = step(1, 5), step(2, 6)
    in_flight.add(first, 1, BYTES, DEADLINE_S, 0.0)
    in_flight.add(second, 1, BYTES, DEADLINE_S, 0.1)
    assert in_flight.due_s == pytest.approx(0.2)
    assert in_flight.again(0.21) == [first]
    assert in_flight.due_s == pytest.approx(0.3)
    assert in_flight.again(0.31) == [second]
    assert in_flight.again(0.6) == []
    assert in_flight.again(0.62) == [first]
    assert in_flight.again(0.72) == [second]
    assert in_flight.again(0.99) == []
    assert in_flight.due_s == pytest.approx(DEADLINE_S)
    assert in_flight.again(1.01) is None


def test_how_long_a_catch_up_took_says_nothing_about_replies_to_a_single_row(
    in_flight: InFlight, reply_time: ReplyTime
):
    in_flight.add(step(1, 5), FEW_ROWS + 1, BYTES, 2 * DEADLINE_S, 0.0)
    assert in_flight.due_s == pytest.approx(1.0)
    in_flight.settle(1, 5, 0.9)
    assert reply_time.mean_s == 0.1


def test_the_last_token_of_a_step_of_few_rows_tells_how_long_replies_take(
    in_flight: InFlight, reply_time: ReplyTime
):
    in_flight.add(step(1, 5, 6), FEW_ROWS, BYTES, DEADLINE_S, 0.0)
    in_flight.settle(1, 5, 0.9)
    assert reply_time.mean_s == 0.1
    in_flight.settle(1, 6, 0.9)
    assert reply_time.mean_s == pytest.approx(0.2)


def test_only_a_reply_to_a_step_that_went_up_once_tells_how_fast_bytes_travel(
    in_flight: InFlight, uplink: Uplink
):
    in_flight.add(step(1, 5), 1, BYTES, DEADLINE_S, 0.0)
    in_flight.add(step(2, 6), 1, BYTES, DEADLINE_S, 0.0)
    in_flight.settle(1, 5, 0.1)
    in_flight.again(0.5)
    in_flight.settle(2, 6, 0.6)
    assert uplink.replies == 1


def test_on_a_link_slower_than_the_patience_a_step_goes_up_once_and_is_answered():
    in_flight = InFlight(ReplyTime(mean_s=1.2, deviation_s=0.05), Uplink())
    in_flight.add(step(1, 5), 1, BYTES, DEADLINE_S, 0.0)
    assert in_flight.due_s == pytest.approx(1.3)
    in_flight.settle(1, 5, 1.25)
    assert not in_flight
