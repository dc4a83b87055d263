"""Hidden states in each codec, with lengths that fit and lengths that don't.

Input: width (the top bit makes it a wide one), count (the top bit fits the rest to the length they ask
for), states.
"""

from __future__ import annotations

import struct
from functools import partial

import torch

from shared.errors import CodecError
from shared.tensors.codec import CODECS, Codec, codec_named
from tests.fuzz.target import Target

WIDE = 256  # added to a width: int4 has another layout there

# Of a row's largest value; fp32 loses nothing. The others round once more on the way back.
TOLERANCE = {"fp32": 0.0, "fp16": 2**-10, "bf16": 2**-8, "int8": 2**-7, "int4": 2**-6}
# Four bits are off by a tenth of a group's largest value each, and a rotation adds up the errors of a row.
WIDE_TOLERANCE = TOLERANCE | {"int4": 0.4 * (WIDE + 64) ** 0.5}

NOT_FINITE = (float("nan"), float("inf"), 3.4e38, torch.finfo(torch.float32).max, -1e-45)
# No codec has to write what its own rounding may carry past float32's largest.
NEARLY_INFINITE = 3.29e38


def states(name: str, data: bytes) -> None:
    """What decodes is finite, and stays within the codec's own rounding when it is sent on."""
    codec = codec_named(name)
    if len(data) < 2:
        raise CodecError("no head")
    width = 1 + data[0] % 64 + (WIDE if data[0] & 0x80 else 0)
    count, body = 1 + data[1] % 8, data[2:]
    if data[1] & 0x80:
        length = count * codec.row_bytes(width)
        body = (body * (length // max(1, len(body)) + 1))[:length].ljust(length, b"\0")
    rows = codec.decode(body, count, width)
    if rows.shape != (count, width) or not bool(torch.isfinite(rows).all()):
        raise AssertionError(f"{count} × {width} rows came as {rows}")
    peak = rows.abs().amax(dim=1, keepdim=True)
    if float(peak.max()) > NEARLY_INFINITE:
        return
    try:
        again = codec.decode(codec.encode(rows), count, width)
    except CodecError as error:
        raise AssertionError(f"{rows} can't be sent on: {error}") from error
    # Below float16's smallest step, or int8's smallest scale, values round to nothing.
    tolerance = (TOLERANCE if width <= WIDE else WIDE_TOLERANCE)[name]
    allowed = peak * tolerance + (0.0 if name == "fp32" else 2.0**-24)
    if bool(((again - rows).abs() > allowed).any()):
        raise AssertionError(f"{rows} came back as {again}")


def _seeds(codec: Codec) -> list[bytes]:
    rows = torch.tensor([[0.5, -1.25, 3.0, 65_000.0], [0.0, 1e-7, -70_000.0, 2.0]])
    whole = codec.encode(rows)
    not_finite = [struct.pack("<f", value) * 8 for value in NOT_FINITE]
    wide = codec.encode(torch.linspace(-70_000.0, 1.0, WIDE + 4)[None])
    heads = [bytes((3, 1)) + whole, bytes((3, 0x81)) + whole, bytes((3, 2)) + whole, bytes((0x83, 0)) + wide]
    return [*heads, *(bytes((3, 0x80)) + values for values in not_finite), bytes((63, 0x9F)) + whole]


TARGETS = [
    Target(f"tensors.{name}", partial(states, name), partial(_seeds, codec), native=True)
    for name, codec in CODECS.items()
]
