"""Numbers of few bits: no gaps between them, and they come back whatever their width and number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.tensors.bit_packing import packed, packed_bytes, unpacked


def numbers(count: int, width: int, bits: int) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 1 << bits, (count, width), dtype=np.uint8)


@pytest.mark.parametrize("bits", range(1, 9))
@given(count=st.integers(0, 4), width=st.integers(1, 300))
def test_numbers_come_back(bits: int, count: int, width: int):
    given_numbers = numbers(count, width, bits)
    rows = packed(given_numbers, bits)
    assert rows.shape == (count, packed_bytes(width, bits))
    assert np.array_equal(unpacked(rows, width, bits), given_numbers)


@pytest.mark.parametrize("bits", range(1, 9))
def test_eight_numbers_take_as_many_bytes_as_each_has_bits(bits: int):
    assert [packed_bytes(width, bits) for width in (1, 8, 9, 64)] == [bits, bits, 2 * bits, 8 * bits]


def test_the_first_number_is_in_the_lowest_bits_and_those_of_a_word_an_eighth_of_the_row_apart():
    row = np.zeros((1, 16), np.uint8)
    row[0, [0, 2, 1]] = 0b01111, 0b10001, 0b10101  # words 0, 0 and 1
    assert packed(row, 5).tobytes() == bytes([0b001_01111, 0b10, 0, 0, 0, 0b10101, 0, 0, 0, 0])


def test_largest_numbers_do_not_reach_into_their_neighbours():
    row = np.zeros((1, 24), np.uint8)
    row[0, ::2] = 127
    assert np.array_equal(unpacked(packed(row, 7), 24, 7), row)
