"""Narrow rows of int4: bytes as they are written down in docs/wire.md, and marks that must be right."""

from __future__ import annotations

import struct

import pytest
import torch

from shared.errors import CodecError
from shared.tensors.codec import CODECS

INT4 = CODECS["int4"]
LEVELS_AT = 8  # of a row of width 64: behind a scale and three marked values
RAMP = torch.arange(1.0, 65.0)[None]  # the last three are marked


def bf16(data: bytes) -> float:
    return struct.unpack("<f", b"\0\0" + data)[0]


def decoded_by_hand(row: bytes) -> list[float]:
    """A row of width 64, by docs/wire.md alone."""
    scale = bf16(row[:2])
    marked = [bf16(row[at : at + 2]) for at in (2, 4, 6)]
    words = [int.from_bytes(row[at : at + 7], "little") for at in range(LEVELS_AT, 64, 7)]
    levels = [words[i % 8] >> 7 * (i // 8) & 127 for i in range(64)]
    return [(level - 64) * scale if level else marked.pop(0) for level in levels]


def test_a_row_is_laid_out_as_the_wires_document_says():
    values = torch.randn(1, 64, generator=torch.Generator().manual_seed(3))
    row = INT4.encode(values)
    assert len(row) == 64
    assert decoded_by_hand(row) == pytest.approx(INT4.decode(row, 1, 64)[0].tolist(), rel=1e-6)


@pytest.mark.parametrize(
    ("width", "bits", "marked"), [(64, 7, 3), (96, 6, 4), (128, 5, 9), (192, 5, 7), (256, 5, 5)]
)
def test_levels_are_as_fine_as_leaves_room_for_three_marked_values(width: int, bits: int, marked: int):
    assert INT4.row_bytes(width) == 2 + 2 * marked + width * bits // 8
    layout = INT4.row_format.layout(width)
    assert layout["marked"].shape == (marked,)
    assert layout["levels"].shape == (width * bits // 8,)


@pytest.mark.parametrize("levels", [bytes(56), b"\xff" * 56])
def test_rows_that_mark_all_values_or_none_are_refused(levels: bytes):
    row = INT4.encode(RAMP)[:LEVELS_AT] + levels
    with pytest.raises(CodecError, match="a row's 3 outliers"):
        INT4.decode(row, 1, 64)


def test_one_mark_too_many_in_one_row_of_several_is_refused():
    rows = bytearray(INT4.encode(RAMP.repeat(3, 1)))
    rows[64 + LEVELS_AT] &= 0x80  # the second row's first value
    with pytest.raises(CodecError, match="mark more or fewer"):
        INT4.decode(bytes(rows), 3, 64)


@pytest.mark.parametrize("massive", [1e3, 1e5, 1e30])
@pytest.mark.parametrize("width", [8, 64, 250, 256])
def test_three_massive_values_leave_the_others_as_fine_as_they_were(massive: float, width: int):
    values = torch.randn(4, width, generator=torch.Generator().manual_seed(width))
    places = torch.stack([torch.randperm(width)[:3] for _ in range(4)])
    values.scatter_(1, places, massive)
    back = INT4.decode(INT4.encode(values), 4, width)
    assert torch.allclose(back.gather(1, places), torch.tensor(massive), rtol=2**-8)
    ordinary = values.scatter(1, places, 0.0)
    assert (back.scatter(1, places, 0.0) - ordinary).norm() <= 0.07 * ordinary.norm()


def test_of_equal_values_three_are_marked():
    back = INT4.decode(INT4.encode(torch.full((2, 64), -5.0)), 2, 64)
    assert torch.allclose(back, torch.tensor(-5.0), rtol=2**-8)
