"""What runs together in one forward."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_worker.scheduler import Scheduler
from cloud_worker.work import Work
from shared.errors import BusyError
from shared.wire.topics import SessionAddress


def work(session: str, start: int, count: int = 1) -> Work:
    return Work(SessionAddress("home", "hub", session), 1, 1, start, count, "fp16", b"")


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
    scheduler.next_batch()
    assert scheduler.next_batch()[0].address.session == "short"


def test_a_work_larger_than_the_budget_runs_alone():
    scheduler = Scheduler(batch_tokens=8)
    scheduler.add(work("a", 0, 20))
    scheduler.add(work("b", 0))
    assert [w.count for w in scheduler.next_batch()] == [20]
    assert [w.count for w in scheduler.next_batch()] == [1]


def test_the_queue_is_bounded():
    scheduler = Scheduler(max_waiting=2)
    scheduler.add(work("a", 0))
    scheduler.add(work("b", 0))
    with pytest.raises(BusyError):
        scheduler.add(work("c", 0))


def test_dropping_a_session_tells_where_its_work_began():
    scheduler = Scheduler()
    scheduler.add(work("a", 3))
    scheduler.add(work("a", 4))
    assert scheduler.drop(work("a", 0).address) == 3
    assert scheduler.drop(work("a", 0).address) is None
    assert len(scheduler) == 0


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 12)), max_size=60), st.integers(1, 16))
def test_nothing_is_lost_doubled_or_reordered_and_the_budget_holds(steps, budget):
    scheduler = Scheduler(batch_tokens=budget)
    ends: dict[str, int] = {}
    expected: dict[str, list[int]] = {}
    for session, count in steps:
        start = ends.get(session, 0)
        scheduler.add(work(session, start, count))
        ends[session] = start + count
        expected.setdefault(session, []).append(start)
    seen: dict[str, list[int]] = {}
    while batch := scheduler.next_batch():
        assert len(batch) == 1 or sum(w.count for w in batch) <= budget
        for item in batch:
            seen.setdefault(item.address.session, []).append(item.from_position)
    assert seen == expected
    assert len(scheduler) == 0
