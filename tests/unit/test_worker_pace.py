"""How a worker's batches are timed: chunks that leave room for tokens, and moments of waiting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_worker.chunk import FIRST_ROWS, LEAST_ROWS, MOST_ROWS, QUIET_FORWARDS, ChunkSize
from cloud_worker.gathering import LAYER_SHARE, MOST_SKIPPED, SHARE, Gathering
from shared.wire.topics import SessionAddress

DECODE_S = 0.05


def addresses(names: str) -> list[SessionAddress]:
    return [SessionAddress("home", "hub", name) for name in names]


def decoding() -> ChunkSize:
    """Of a worker that has been decoding for a while."""
    chunk = ChunkSize()
    for _ in range(10):
        chunk.observe(8, 0, DECODE_S)
    return chunk


def prefill(chunk: ChunkSize, row_s: float, forwards: int) -> None:
    for _ in range(forwards):
        rows = chunk.rows
        chunk.observe(8, rows, DECODE_S + rows * row_s)


def test_where_nobody_decodes_chunks_are_long():
    assert ChunkSize().rows == MOST_ROWS


@pytest.mark.parametrize(("row_s", "rows"), [(0.002, 25), (0.0005, 100), (0.1, LEAST_ROWS), (0.0, MOST_ROWS)])
def test_a_chunk_comes_to_take_as_long_as_a_forward_without_it(row_s: float, rows: int):
    chunk = decoding()
    assert chunk.rows == FIRST_ROWS
    prefill(chunk, row_s, 20)
    assert chunk.rows == pytest.approx(rows, abs=1)


def test_one_odd_time_changes_a_chunk_by_a_factor_of_two_at_most():
    chunk = decoding()
    chunk.observe(8, 64, DECODE_S / 10)
    assert chunk.rows == 2 * FIRST_ROWS
    chunk.observe(8, 128, 60.0)
    assert chunk.rows == FIRST_ROWS


def test_chunks_stay_short_while_those_who_decode_think_and_grow_when_they_are_gone():
    chunk = decoding()
    for _ in range(QUIET_FORWARDS - 1):
        chunk.observe(0, LEAST_ROWS, 1.0)
    assert chunk.rows < MOST_ROWS
    chunk.observe(0, LEAST_ROWS, 1.0)
    assert chunk.rows == MOST_ROWS


@given(st.lists(st.tuples(st.integers(0, 64), st.integers(0, 512), st.floats(0, 100)), max_size=40))
def test_no_time_makes_a_chunk_out_of_bounds(forwards):
    chunk = ChunkSize()
    for decode_rows, chunk_rows, seconds in forwards:
        chunk.observe(decode_rows, chunk_rows, seconds)
        assert LEAST_ROWS <= chunk.rows <= MOST_ROWS


def test_a_lone_session_never_waits():
    gathering = Gathering(layers=2)
    for _ in range(3):
        gathering.ran(addresses("a"))
        assert gathering.wait_s(1, 1.0) == 0.0


def test_the_first_of_several_waits_a_moment_for_the_others_of_both_latest_batches():
    gathering = Gathering(layers=2)
    gathering.ran(addresses("a"))
    gathering.ran(addresses("bcd"))
    assert gathering.expected == 4
    assert gathering.wait_s(3, 1.0) == SHARE
    assert gathering.wait_s(4, 1.0) == 0.0
    assert gathering.wait_s(0, 1.0) == 0.0


@pytest.mark.parametrize("layers", [1, 7, 32, 80])
def test_a_wait_is_far_below_the_time_of_one_layer(layers):
    gathering = Gathering(layers)
    gathering.ran(addresses("ab"))
    assert 0.0 < gathering.wait_s(1, float(layers)) <= LAYER_SHARE


def test_waits_in_vain_become_rare_and_one_that_pays_brings_them_back():
    gathering = Gathering(layers=2)
    waits = 0
    for _ in range(1000):
        gathering.ran(addresses("ab"))
        if gathering.wait_s(1, 1.0):
            waits += 1
            gathering.waited(0)
    assert waits < 1000 / MOST_SKIPPED + 10
    while not gathering.wait_s(1, 1.0):
        pass
    gathering.waited(1)
    assert gathering.wait_s(1, 1.0) == SHARE
