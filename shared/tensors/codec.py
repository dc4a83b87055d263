"""Hidden-state codecs: each row of states becomes a fixed number of bytes.

Rows are independent, so the states of any range of positions are a slice of the session's bytes:
nothing is encoded twice when a worker must be caught up, and the log cuts anywhere.

| codec | row                                   | bytes per row    |
|-------|---------------------------------------|------------------|
| fp32  | hidden × float32                      | 4 × hidden       |
| fp16  | float32 scale, hidden × float16       | 2 × hidden + 4   |
| int8  | float32 scale, hidden × int8          | hidden + 4       |

Residual streams reach 10⁵ times their typical size in a few dimensions, past float16's 65,504: a row
that would overflow is scaled down by a power of two (which loses nothing), all others have scale 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from shared.errors import CodecError

if sys.byteorder != "little":  # pragma: no cover
    msg = "hidden states travel in little-endian order, which this machine does not use"
    raise ImportError(msg)

_FP16_MAX = 60000.0  # a little below 65,504: rounding must not reach infinity
# A little below float32's largest: what a codec's rounding adds must not reach infinity at the receiver.
_LARGEST = 3.3e38
_SCALE_BYTES = 4


class Codec(NamedTuple):
    """A way to write rows of hidden states."""

    name: str
    row_bytes: Callable[[int], int]
    encode_rows: Callable[[Tensor], Tensor]
    decode_rows: Callable[[Tensor, int], Tensor]

    def encode(self, rows: Tensor) -> bytes:
        """Bytes of `rows`.

        Args:
            rows: `(tokens, hidden)` of any float dtype, finite.

        Returns:
            `tokens × row_bytes(hidden)` bytes.

        Raises:
            CodecError: a value is NaN, infinite or nearly so.
        """
        rows = rows.detach().to(device="cpu", dtype=torch.float32)
        if not bool((rows.abs() <= _LARGEST).all()):
            msg = "hidden states hold NaN or infinity: the model overflowed; load it in float32 or bfloat16"
            raise CodecError(msg)
        return self.encode_rows(rows.contiguous()).numpy().tobytes()

    def decode(self, data: bytes, count: int, hidden_size: int) -> Tensor:
        """Rows from bytes that a peer sent.

        Returns:
            `(count, hidden_size)` float32, all finite.

        Raises:
            CodecError: a wrong length, or a value that is not finite (the sender's fault).
        """
        width = self.row_bytes(hidden_size)
        if len(data) != count * width:
            msg = (
                f"{len(data)} bytes of states; {count} rows of width {hidden_size} in codec {self.name} "
                f"are {count * width}: edge and worker disagree on the codec or the model"
            )
            raise CodecError(msg)
        raw = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(count, width)
        rows = self.decode_rows(raw, hidden_size)
        if not bool(torch.isfinite(rows).all()):
            msg = f"states in codec {self.name} hold NaN or infinity"
            raise CodecError(msg)
        return rows


def _as_bytes(values: Tensor) -> Tensor:
    """`(tokens, n)` of any dtype as `(tokens, n × itemsize)` uint8."""
    return values.contiguous().view(torch.uint8)


def _encode_fp32(rows: Tensor) -> Tensor:
    return _as_bytes(rows)


def _decode_fp32(raw: Tensor, hidden_size: int) -> Tensor:
    return raw.view(torch.float32).view(-1, hidden_size)


def _encode_fp16(rows: Tensor) -> Tensor:
    peak = rows.abs().amax(dim=1, keepdim=True)  # (tokens, 1)
    over = (peak / _FP16_MAX).clamp(min=1.0)
    scale = torch.exp2(torch.ceil(torch.log2(over)))
    return torch.cat([_as_bytes(scale), _as_bytes((rows / scale).half())], dim=1)


def _decode_fp16(raw: Tensor, hidden_size: int) -> Tensor:
    return _scaled(raw, torch.float16, hidden_size)


def _encode_int8(rows: Tensor) -> Tensor:
    peak = rows.abs().amax(dim=1, keepdim=True)
    scale = torch.where(peak > 0, peak / 127.0, torch.ones_like(peak))
    scale = scale.clamp(min=torch.finfo(torch.float32).tiny)
    levels = (rows / scale).round().clamp(-127, 127).to(torch.int8)
    return torch.cat([_as_bytes(scale), _as_bytes(levels)], dim=1)


def _decode_int8(raw: Tensor, hidden_size: int) -> Tensor:
    return _scaled(raw, torch.int8, hidden_size)


def _scaled(raw: Tensor, dtype: torch.dtype, hidden_size: int) -> Tensor:
    """Rows of `[float32 scale][hidden × dtype]` bytes, multiplied out."""
    # reshape(-1) first: a single row of a slice keeps the stride of the whole and can't be viewed.
    scale = raw[:, :_SCALE_BYTES].reshape(-1).view(torch.float32).view(-1, 1)
    values = raw[:, _SCALE_BYTES:].reshape(-1).view(dtype).view(-1, hidden_size)
    return values.float() * scale


CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        Codec("fp32", lambda hidden: 4 * hidden, _encode_fp32, _decode_fp32),
        Codec("fp16", lambda hidden: 2 * hidden + _SCALE_BYTES, _encode_fp16, _decode_fp16),
        Codec("int8", lambda hidden: hidden + _SCALE_BYTES, _encode_int8, _decode_int8),
    )
}


def codec_named(name: str) -> Codec:
    """The codec of that name.

    Raises:
        CodecError: unknown; the message lists those there are.
    """
    try:
        return CODECS[name]
    except KeyError:
        msg = f"unknown codec {name[:40]!r}: this build has {', '.join(CODECS)}"
        raise CodecError(msg) from None
