"""Bytes, time and error of a codec on made-up rows: ordinary values, and a few dimensions that are massive.

Times are medians of many short runs: whatever else the machine does falls between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from ops.bench.report import Samples
from shared.tensors.codec import Codec

MANY_ROWS: Final = 64  # a prompt's chunk; one row is a step of decoding
_MASSIVE: Final = 3  # dimensions
_TIMES_TYPICAL: Final = 1e3
_CALLS: Final = 5  # in a run


@dataclass(frozen=True)
class SpeedResult:
    """One codec at one width; times in microseconds per call.

    Attributes:
        codec: its name.
        width: values in a row.
        row_bytes: of an encoded row.
        fp16_share: those by fp16's.
        encode_us, decode_us: of one row.
        encode_many_us, decode_many_us: of `MANY_ROWS`.
        relative_error: of the ordinary dimensions.
    """

    codec: str
    width: int
    row_bytes: int
    fp16_share: float
    encode_us: Samples
    decode_us: Samples
    encode_many_us: Samples
    decode_many_us: Samples
    relative_error: float


def made_up_rows(count: int, width: int) -> Tensor:
    """`(count, width)`: Gaussian, the first dimensions massive."""
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(width))
    rows[:, :_MASSIVE] *= _TIMES_TYPICAL
    return rows


def measure_speed(codec: Codec, fp16: Codec, width: int, runs: int) -> SpeedResult:
    """Time a codec.

    Args:
        codec: which.
        fp16: what its bytes are compared with.
        width: of the rows.
        runs: of each figure.
    """
    one, many = made_up_rows(1, width), made_up_rows(MANY_ROWS, width)
    line, lines = codec.encode(one), codec.encode(many)
    row_bytes = codec.row_bytes(width)
    return SpeedResult(
        codec.name,
        width,
        row_bytes,
        row_bytes / fp16.row_bytes(width),
        _time_us(lambda: codec.encode(one), runs),
        _time_us(lambda: codec.decode(line, 1, width), runs),
        _time_us(lambda: codec.encode(many), runs),
        _time_us(lambda: codec.decode(lines, MANY_ROWS, width), runs),
        _ordinary_error(many, codec.decode(lines, MANY_ROWS, width)),
    )


def _ordinary_error(rows: Tensor, back: Tensor) -> float:
    ordinary = rows[:, _MASSIVE:]
    return float((back[:, _MASSIVE:] - ordinary).norm() / ordinary.norm())


def _time_us(call: Callable[[], object], runs: int) -> Samples:
    call()
    found = []
    for _ in range(runs):
        started_s = time.perf_counter()
        for _ in range(_CALLS):
            call()
        found.append((time.perf_counter() - started_s) / _CALLS * 1e6)
    return Samples.of(found)
