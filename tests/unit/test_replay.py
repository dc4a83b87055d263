"""A log comes back as few works, and exactly."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from cloud_worker.replay import ROWS_PER_WORK, replay
from cloud_worker.session import WorkerSession
from shared.context.store import LogRecord
from shared.wire.messages import Sampling
from shared.wire.topics import SessionAddress

SESSION = WorkerSession(SessionAddress("home", "hub", "s"), 3, "fp16", Sampling(), 4096, 0.0)


@given(st.lists(st.tuples(st.integers(1, 300), st.sampled_from(["fp16", "int8"])), max_size=40))
def test_every_row_comes_once_in_order_in_works_of_one_codec(chunks):
    records, position = [], 0
    for count, codec in chunks:
        records.append(LogRecord(position, count, codec, bytes([position % 251]) * count))
        position += count
    works = list(replay(SESSION, records, 0.0))
    assert b"".join(work.states for work in works) == b"".join(record.states for record in records)
    ends = [work.end_position for work in works]
    assert [work.from_position for work in works] == [0, *ends[:-1]][: len(works)]
    for work in works:
        assert work.count <= ROWS_PER_WORK
        assert len(work.states) == work.count
        assert (work.number, work.epoch, work.wants) == (0, 3, ())
    fewest = sum(1 for a, b in itertools.pairwise(chunks) if a[1] != b[1]) + 1
    assert len(works) <= fewest + 2 * position // ROWS_PER_WORK + 1
