"""What runs together in one forward."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_worker.pace import Pace
from cloud_worker.scheduler import Scheduler
from cloud_worker.work import Work
from shared.errors import BusyError
from shared.wire.topics import SessionAddress


def work(session: str, start: int, count: int = 1, states: bytes = b"") -> Work:
    return Work(SessionAddress("home", "hub", session), 1, 1, start, count, "fp16", states)


def test_waiting_sessions_share_a_batch():
    scheduler = Scheduler()
    for name in "abc":
        scheduler.add(work(name, 0))
    assert [w.address.session for w in scheduler.next_batch()] == ["a", "b", "c"]
    assert scheduler.next_batch() == []


def test_chunks_that_follow_each_other_run_together_and_a_rewrite_waits():
    scheduler = Scheduler()
    scheduler.add(work("a", 0, 4))
    scheduler.add(work("a", 4, 4))
    scheduler.add(work("a", 6, 1))
    assert [w.from_position for w in scheduler.next_batch()] == [0, 4]
    assert [w.from_position for w in scheduler.next_batch()] == [6]


def test_a_long_prefill_does_not_keep_others_out():
    scheduler = Scheduler(batch_tokens=8)
    for start in range(0, 40, 8):
        scheduler.add(work("long", start, 8))
    scheduler.add(work("short", 0))
    assert scheduler.next_batch()[0].address.session == "short"


def test_a_work_larger_than_the_budget_runs_alone():
    scheduler = Scheduler(batch_tokens=8)
    scheduler.add(work("a", 0, 20))
    scheduler.add(work("b", 0))
    assert [w.count for w in scheduler.next_batch()] == [1]
    assert [w.count for w in scheduler.next_batch()] == [20]


def test_decoded_rows_come_before_chunks_whoever_was_first_and_together_they_fill_a_size():
    scheduler = Scheduler()
    scheduler.add(work("prompt", 0, 100))
    scheduler.add(work("token", 0))
    assert [w.address.session for w in scheduler.next_batch(64)] == ["token", "prompt"]
    assert scheduler.prefill_rows == 63


def test_a_long_work_is_taken_in_parts_that_follow_one_another():
    scheduler = Scheduler()
    whole = replace(work("a", 5, 40, bytes(range(80))), wants=(8, 44), allowed=((1,), (2,)))
    scheduler.add(whole)
    parts = []
    while batch := scheduler.next_batch(16):
        parts += batch
    assert [(w.from_position, w.count) for w in parts] == [(5, 16), (21, 16), (37, 8)]
    assert b"".join(w.states for w in parts) == whole.states
    assert [(w.wants, w.allowed) for w in parts] == [((8,), ((1,),)), ((), ()), ((44,), ((2,),))]
    assert all(w.whole is whole for w in parts)
    assert (len(scheduler), scheduler.rows) == (0, 0)


def test_a_rewrite_waits_for_the_batch_after_the_last_part():
    scheduler = Scheduler()
    scheduler.add(work("a", 0, 30))
    scheduler.add(work("a", 10, 20))
    starts = [[w.from_position for w in batch] for batch in iter(lambda: scheduler.next_batch(24), [])]
    assert starts == [[0], [24], [10]]


def test_prompts_take_their_chunks_in_turn():
    scheduler = Scheduler()
    scheduler.add(work("long", 0, 100))
    scheduler.add(work("short", 0, 20))
    names = [[w.address.session for w in scheduler.next_batch(32)] for _ in range(2)]
    assert names == [["long"], ["short", "long"]]


def test_a_work_that_cannot_be_divided_is_handed_over_whole_to_be_refused():
    scheduler = Scheduler()
    scheduler.add(work("broken", 0, 100, bytes(7)))
    (taken,) = scheduler.next_batch(16)
    assert taken.count == 100


def test_a_prompt_goes_on_however_many_sessions_decode():
    scheduler = Scheduler(batch_tokens=8)
    scheduler.add(work("prompt", 0, 100))
    for number in range(100):
        scheduler.add(work(f"s{number}", 0))
    assert "prompt" in {w.address.session for w in scheduler.next_batch(16)}


def test_dropping_a_session_of_which_a_part_was_taken_goes_back_to_the_works_first_row():
    scheduler = Scheduler()
    scheduler.add(work("a", 10, 40))
    scheduler.next_batch(16)
    assert scheduler.drop(work("a", 0).address) == 10
    assert (len(scheduler), scheduler.rows) == (0, 0)


def test_the_queue_is_bounded():
    scheduler = Scheduler(max_waiting=2)
    scheduler.add(work("a", 0))
    scheduler.add(work("b", 0))
    with pytest.raises(BusyError):
        scheduler.add(work("c", 0))


def test_the_bytes_that_wait_are_bounded_and_come_back():
    scheduler = Scheduler(max_waiting_bytes=10)
    scheduler.add(work("a", 0, states=bytes(8)))
    with pytest.raises(BusyError):
        scheduler.add(work("b", 0, states=bytes(3)))
    scheduler.next_batch()
    scheduler.add(work("b", 0, states=bytes(10)))
    scheduler.drop(work("b", 0).address)
    scheduler.add(work("c", 0, states=bytes(10)))


def test_a_long_log_that_is_replayed_does_not_keep_a_newcomer_out():
    scheduler = Scheduler()
    for start in range(0, 1 << 16, 512):
        scheduler.add(work("log", start, 512))
    scheduler.add(work("new", 0))
    assert scheduler.rows == (1 << 16) + 1
    assert "new" in {item.address.session for item in scheduler.next_batch()}


def observed(*forwards: tuple[int, float], batch_tokens: int = 2048) -> Pace:
    pace = Pace(batch_tokens)
    pace.observe(1, 60.0)  # the first forward sets torch up and says nothing
    for rows, seconds in forwards:
        pace.observe(rows, seconds)
    return pace


def test_a_newcomer_waits_for_the_rows_before_it_but_not_for_the_forward_they_share():
    assert observed().wait_s(1000) == 0.0
    pace = observed((10, 0.4), (110, 1.4), (60, 0.9), batch_tokens=100)
    assert pace.wait_s(0) == 0.0
    assert pace.wait_s(100) == pytest.approx(1.0)
    assert pace.wait_s(101) == pytest.approx(1.01 + 0.3)
    assert pace.wait_s(300) == pytest.approx(3.0 + 2 * 0.3)


def test_rows_that_cost_nothing_more_make_no_queue():
    assert observed((1, 0.3), (1, 0.3)).wait_s(8) == 0.0
    assert observed((1, 0.3), (8, 0.3), (4, 0.3)).wait_s(8) == pytest.approx(0.0)


def test_the_pace_follows_the_engine():
    pace = observed(*[(100, 1.0), (200, 2.0)] * 10)
    assert pace.wait_s(50) == pytest.approx(0.5)
    for rows in (100, 200) * 100:
        pace.observe(rows, rows / 50)
    assert pace.wait_s(50) == pytest.approx(1.0, rel=0.01)


@given(st.lists(st.tuples(st.integers(1, 4096), st.floats(0, 100)), max_size=40), st.integers(0, 10_000))
def test_no_measurement_makes_a_wait_that_is_below_nothing(forwards, rows):
    assert observed(*forwards).wait_s(rows) >= 0.0


def test_dropping_a_session_tells_where_its_work_began():
    scheduler = Scheduler()
    scheduler.add(work("a", 3))
    scheduler.add(work("a", 4))
    assert scheduler.drop(work("a", 0).address) == 3
    assert scheduler.drop(work("a", 0).address) is None
    assert len(scheduler) == 0


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 40)), max_size=60),
    st.integers(1, 32),
    st.none() | st.integers(1, 40),
)
def test_nothing_is_lost_doubled_or_reordered_and_the_budget_holds(steps, budget, chunk):
    scheduler = Scheduler(batch_tokens=budget)
    ends: dict[str, int] = {}
    for session, count in steps:
        start = ends.get(session, 0)
        scheduler.add(work(session, start, count, bytes(count)))
        ends[session] = start + count
    seen: dict[str, int] = {}
    while batch := scheduler.next_batch(chunk):
        assert sum(w.count for w in batch) <= budget or (len(batch) == 1 and chunk is None)
        sessions = [w.address.session for w in batch]
        assert sessions == sorted(sessions, key=sessions.index)
        for item in batch:
            assert len(item.states) == item.count
            assert item.from_position == seen.get(item.address.session, 0)
            seen[item.address.session] = item.end_position
    assert seen == ends
    assert (len(scheduler), scheduler.rows, scheduler.sessions) == (0, 0, 0)
