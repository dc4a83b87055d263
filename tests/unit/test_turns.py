"""Edges share an engine fairly, however many sessions each has."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from cloud_worker.scheduler import DECODE_ROWS, Scheduler
from cloud_worker.turns import Turns
from cloud_worker.work import Work
from shared.wire.topics import SessionAddress

BATCH_ROWS = 32
NEWCOMER = "modest"


def work(edge: str, session: str, count: int) -> Work:
    return Work(SessionAddress("home", edge, session), 1, 1, 0, count, "fp16", bytes(count))


def greedy(scheduler: Scheduler, edge: str, sessions: int, count: int) -> None:
    """An edge asks for many sessions at once."""
    for number in range(sessions):
        scheduler.add(work(edge, f"s{number}", count))


def edges(batch: list[Work]) -> list[str]:
    return [item.address.edge for item in batch]


def test_one_step_does_not_wait_for_thirty_of_another_edge():
    scheduler = Scheduler(batch_tokens=BATCH_ROWS)
    greedy(scheduler, "greedy", 30, DECODE_ROWS)
    scheduler.next_batch(64)
    scheduler.add(work(NEWCOMER, "s", 1))
    assert edges(scheduler.next_batch(64))[0] == NEWCOMER


def test_one_prompt_does_not_wait_for_thirty_of_another_edge():
    scheduler = Scheduler()
    greedy(scheduler, "greedy", 30, 200)
    scheduler.next_batch(64)
    scheduler.add(work(NEWCOMER, "s", 100))
    assert [edges(scheduler.next_batch(64)) for _ in range(3)] == [
        [NEWCOMER],
        ["greedy"],
        [NEWCOMER, "greedy"],
    ]


def test_edges_that_go_on_waiting_get_equally_many_rows_whatever_their_steps_are():
    scheduler = Scheduler(batch_tokens=BATCH_ROWS)
    greedy(scheduler, "long", 40, DECODE_ROWS)
    greedy(scheduler, "short", 400, 2)
    rows: Counter[str] = Counter()
    for _ in range(20):
        for item in scheduler.next_batch(64):
            rows[item.address.edge] += item.count
    assert abs(rows["long"] - rows["short"]) <= DECODE_ROWS


def test_who_was_away_has_saved_nothing():
    """Otherwise an edge that slept would keep all others out until it had caught up."""
    scheduler = Scheduler(batch_tokens=BATCH_ROWS)
    greedy(scheduler, "busy", 30, DECODE_ROWS)
    for _ in range(10):
        scheduler.next_batch(64)
    greedy(scheduler, "back", 10, DECODE_ROWS)
    assert [sorted(edges(scheduler.next_batch(64))) for _ in range(4)] == [["back", "busy"]] * 4


def test_turns_hold_nothing_of_edges_that_wait_for_nothing():
    turns = Turns()
    for number in range(1_000):
        for address in turns.take([SessionAddress("home", f"hub{number}", "s")]):
            turns.ran(address.edge, 5)
    assert len(turns) == 0


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 30), min_size=1),
    st.integers(1, DECODE_ROWS),
    st.integers(0, 12),
    st.integers(1, 64),
)
def test_an_edge_with_one_step_waits_for_one_run_of_each_other_edge_at_most(
    others: dict[str, int], rows: int, before: int, budget: int
):
    scheduler = Scheduler(batch_tokens=budget)
    for edge, sessions in others.items():
        greedy(scheduler, edge, sessions, rows)
    for _ in range(before):
        scheduler.next_batch(64)
    scheduler.add(work(NEWCOMER, "s", 1))
    order: list[Work] = []
    while batch := scheduler.next_batch(64):
        order += batch
    runs = [edge for edge, _ in groupby(order, key=lambda item: item.address)]
    ahead = Counter(address.edge for address in runs[: [address.edge for address in runs].index(NEWCOMER)])
    assert all(count == 1 for count in ahead.values())
