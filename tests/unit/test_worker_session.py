"""A worker's verdict on each kind of step, and its table of sessions."""

from __future__ import annotations

import msgspec
import pytest

from cloud_worker.session import MAX_REPLIES, Accept, Broken, Gap, Repeat, Stale, Unknown, WorkerSession
from cloud_worker.table import SessionTable
from shared.errors import BusyError, ContextTooLongError, QuotaError, WireError
from shared.wire.messages import Sampling, Step, Tokens
from shared.wire.topics import SessionAddress


def address(name: str = "s", edge: str = "hub") -> SessionAddress:
    return SessionAddress("home", edge, name)


def make_session(
    name: str = "s", *, epoch: int = 2, touched_s: float = 0.0, edge: str = "hub"
) -> WorkerSession:
    return WorkerSession(address(name, edge), epoch, "fp16", Sampling(), 100, touched_s)


def step(number: int, start: int, count: int, wants=(), epoch: int = 2) -> Step:
    return Step(epoch, number, start, count, b"", list(wants))


def test_steps_in_order_are_accepted_and_move_the_frontier():
    session = make_session()
    assert isinstance(session.judge(step(1, 0, 5), 0.0), Accept)
    verdict = session.judge(step(2, 5, 1, wants=[5]), 0.0)
    assert isinstance(verdict, Accept)
    assert verdict.work.wants == (5,)
    assert session.frontier == 6


def test_a_hole_is_answered_with_the_frontier_and_changes_nothing():
    session = make_session()
    session.judge(step(1, 0, 5), 0.0)
    assert session.judge(step(3, 9, 1), 0.0) == Gap(5, taken=1)
    assert session.frontier == 5


def test_rows_below_the_frontier_rewrite():
    session = make_session()
    session.judge(step(1, 0, 5), 0.0)
    verdict = session.judge(step(2, 3, 1), 0.0)
    assert isinstance(verdict, Accept)
    assert session.frontier == 4


def test_a_repeated_step_gets_its_reply_again_and_is_not_run_again():
    session = make_session()
    session.judge(step(1, 0, 5, wants=[4]), 0.0)
    assert session.judge(step(1, 0, 5, wants=[4]), 0.0) == Repeat(None)
    reply = Tokens(2, 1, [])
    session.remember(reply)
    session.judge(step(2, 5, 1, wants=[5]), 0.0)
    session.remember(Tokens(2, 2, []))
    assert session.judge(step(1, 0, 5, wants=[4]), 0.0) == Repeat(reply)


def test_a_step_whose_forerunner_is_missing_is_a_gap_even_where_its_rows_follow():
    session = make_session()
    session.judge(step(1, 0, 5), 0.0)
    rewritten = msgspec.structs.replace(step(3, 4, 1), after=2)
    assert session.judge(rewritten, 0.0) == Gap(5, taken=1)
    session.judge(step(2, 3, 1), 0.0)
    assert isinstance(session.judge(rewritten, 0.0), Accept)


def test_only_the_newest_replies_are_kept():
    session = make_session()
    for number in range(1, MAX_REPLIES + 5):
        session.remember(Tokens(2, number, []))
    assert len(session.replies) == MAX_REPLIES


def test_other_epochs_are_dropped_or_sent_back_to_the_pool():
    session = make_session(epoch=2)
    assert session.judge(step(1, 0, 1, epoch=1), 0.0) == Stale()
    assert session.judge(step(1, 0, 1, epoch=3), 0.0) == Unknown()


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (step(1, 0, 101), ContextTooLongError),
        (step(1, 0, 5, wants=[5]), WireError),
        (step(1, 0, 5, wants=[3, 3]), WireError),
        (step(1, 0, 5, wants=[4, 3]), WireError),
    ],
)
def test_impossible_steps_name_their_fault(bad, error):
    verdict = make_session().judge(bad, 0.0)
    assert isinstance(verdict, Broken)
    assert isinstance(verdict.error, error)


def test_a_full_table_makes_room_from_idle_sessions_only():
    table = SessionTable(max_sessions=2, idle_s=1.0)
    table.put(make_session("a", touched_s=0.0), 0.0)
    table.put(make_session("b", touched_s=0.0), 0.0)
    with pytest.raises(BusyError):
        table.put(make_session("c"), 0.5)
    assert table.put(make_session("c", touched_s=2.0), 2.0) == [address("a")]


def test_an_edge_at_its_cap_makes_room_among_its_own_sessions_only():
    table = SessionTable(max_sessions_per_edge=1, idle_s=1.0)
    table.put(make_session("a", edge="other"), 0.0)
    table.put(make_session("b"), 0.0)
    with pytest.raises(QuotaError, match=r"worker\.max_sessions_per_edge"):
        table.put(make_session("c"), 0.5)
    assert table.put(make_session("c", touched_s=2.0), 2.0) == [address("b")]
    assert address("a", "other") in table


def test_idle_sessions_can_be_evicted_all_at_once():
    table = SessionTable(idle_s=1.0)
    for name, touched_s in (("a", 0.0), ("b", 1.5), ("c", 0.5)):
        table.put(make_session(name, touched_s=touched_s), 0.0)
    assert table.evict_idle(2.0) == [address("a"), address("c")]
    assert [session.address for session in table] == [address("b")]


def test_orphans_expire_after_their_time_to_live():
    table = SessionTable(ttl_s=10.0)
    table.put(make_session("a", touched_s=0.0), 0.0)
    table.put(make_session("b", touched_s=5.0), 5.0)
    assert table.expire(11.0) == [address("a")]
    assert len(table) == 1


def test_when_memory_is_short_idle_caches_go_first_then_those_that_came_last():
    table = SessionTable(idle_s=2.0)
    for seated_s, name in enumerate("abcd"):
        table.put(make_session(name, touched_s=float(seated_s)), 0.0)
    for name, touched_s in {"a": 9.0, "c": 9.0, "d": 9.0}.items():
        session = table.get(address(name))
        assert session is not None
        session.touched_s = touched_s
    sizes = {address(name): 100 for name in "abcd"}
    gone = table.over_budget(sizes, 200, 9.5)
    assert [session.address for session in gone] == [address("b"), address("d")]
    assert table.crowded_until_s > 9.5


def test_the_session_that_came_first_stays_however_large_it_is():
    table = SessionTable()
    for seated_s, name in enumerate("ab"):
        table.put(make_session(name, touched_s=float(seated_s)), 0.0)
    sizes = {address(name): 100 for name in "ab"}
    assert [session.address for session in table.over_budget(sizes, 10, 1.5)] == [address("b")]


def test_idle_caches_that_go_crowd_nobody():
    table = SessionTable(idle_s=2.0)
    for name in "ab":
        table.put(make_session(name), 0.0)
    table.over_budget({address(name): 100 for name in "ab"}, 100, 9.0)
    assert table.crowded_until_s == 0.0
