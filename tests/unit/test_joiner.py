"""Parts of a work become one result."""

from __future__ import annotations

from cloud_worker.joiner import Joiner
from cloud_worker.work import Done, Work
from shared.errors import ContextGapError, EvictedError
from shared.wire.messages import DrawnToken
from shared.wire.topics import SessionAddress


def whole(session: str = "a", start: int = 10) -> Work:
    return Work(SessionAddress("home", "hub", session), 1, 7, start, 6, "fp16", bytes(12), wants=(11, 15))


def drawn(work: Work, position: int | None = None) -> Done:
    tokens = () if position is None else (DrawnToken(position, 5, 0.5),)
    return Done(work, tokens, compute_us=10, queue_us=3 if position == 11 else 50, batch_sessions=2)


def test_a_work_that_was_not_divided_passes():
    done = drawn(whole(), 11)
    assert Joiner().join(done) is done


def test_the_last_part_brings_the_result_of_all():
    joiner, work = Joiner(), whole()
    assert joiner.join(drawn(work.part(0, 2), 11)) is None
    assert joiner.join(drawn(work.part(2, 2))) is None
    done = joiner.join(drawn(work.part(4, 2), 15))
    assert done is not None
    assert done.work is work
    assert [token.position for token in done.tokens] == [11, 15]
    assert (done.compute_us, done.queue_us, done.batch_sessions) == (30, 3, 2)
    assert len(joiner) == 0


def test_the_first_part_that_fails_fails_the_work():
    joiner, work = Joiner(), whole()
    joiner.join(drawn(work.part(0, 2), 11))
    error = EvictedError("no memory")
    done = joiner.join(Done(work.part(2, 2), error=error))
    assert done is not None
    assert (done.work, done.error) == (work, error)
    assert len(joiner) == 0


def test_a_gap_in_the_midst_of_a_work_is_one_before_it():
    joiner, work = Joiner(), whole()
    joiner.join(drawn(work.part(0, 2), 11))
    done = joiner.join(Done(work.part(2, 2), error=ContextGapError("gap", 12)))
    assert done is not None
    assert isinstance(done.error, ContextGapError)
    assert done.error.frontier == 10


def test_parts_of_a_work_that_was_dropped_do_not_reach_the_next_one():
    joiner, old, new = Joiner(), whole(), whole()
    joiner.join(drawn(old.part(0, 2), 11))
    assert joiner.join(drawn(new.part(0, 4), 11)) is None
    done = joiner.join(drawn(new.part(4, 2), 15))
    assert done is not None
    assert [token.position for token in done.tokens] == [11, 15]


def test_forgotten_sessions_leave_nothing_behind():
    joiner = Joiner()
    joiner.join(drawn(whole("a").part(0, 2)))
    joiner.join(drawn(whole("b").part(0, 2)))
    joiner.forget([whole("a").address])
    assert len(joiner) == 1
