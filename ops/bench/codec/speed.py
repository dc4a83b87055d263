"""Bytes, time and error of a codec on made-up rows: ordinary values, and a few dimensions that are massive.

Rows go the way of a step's payload, so that codecs which compress are measured as they travel.

Times are medians of many short runs: whatever else the machine does falls between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

from ops.bench.report import Samples
from shared.tensors.codec import codec_named
from shared.tensors.compression import Payload, pack, rows_codec, unpack

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
        row_bytes: of a row that travels alone. many_bytes: of one of `MANY_ROWS` that travel together.
        fp16_share, many_share: those by fp16's.
        encode_us, decode_us: of one row.
        encode_many_us, decode_many_us: of `MANY_ROWS`.
        relative_error: of the ordinary dimensions.
    """

    codec: str
    width: int
    row_bytes: int
    fp16_share: float
    many_bytes: float
    many_share: float
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


class _Payloads(NamedTuple):
    """Makes payloads of rows, and rows of payloads.

    Attributes:
        name: of the codec, compressing or not. width: of the rows.
    """

    name: str
    width: int

    def encode(self, rows: Tensor) -> Payload:
        """A step's payload."""
        return pack(self.name, codec_named(rows_codec(self.name)).encode(rows))

    def decode(self, payload: Payload, count: int) -> Tensor:
        """Its rows."""
        codec = codec_named(rows_codec(payload.codec))
        plain = unpack(payload, count * codec.row_bytes(self.width))
        return codec.decode(plain.states, count, self.width)


def measure_speed(name: str, width: int, runs: int) -> SpeedResult:
    """Time a codec; bytes are compared with fp16's.

    Args:
        name: which, compressing or not.
        width: of the rows.
        runs: of each figure.

    Raises:
        CodecError: it compresses, and zstandard is not installed.
    """
    payloads = _Payloads(name, width)
    one, many = made_up_rows(1, width), made_up_rows(MANY_ROWS, width)
    line, lines = payloads.encode(one), payloads.encode(many)
    row_bytes, many_bytes = len(line.states), len(lines.states) / MANY_ROWS
    fp16_bytes = codec_named("fp16").row_bytes(width)
    return SpeedResult(
        name,
        width,
        row_bytes,
        row_bytes / fp16_bytes,
        many_bytes,
        many_bytes / fp16_bytes,
        _time_us(lambda: payloads.encode(one), runs),
        _time_us(lambda: payloads.decode(line, 1), runs),
        _time_us(lambda: payloads.encode(many), runs),
        _time_us(lambda: payloads.decode(lines, MANY_ROWS), runs),
        _ordinary_error(many, payloads.decode(lines, MANY_ROWS)),
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
