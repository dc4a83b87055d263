"""Hidden-state codecs: each row of states becomes a fixed number of bytes.

Rows are independent, so the states of any range of positions are a slice of the session's bytes:
nothing is encoded twice when a worker must be caught up, and the log cuts anywhere.

| codec | row                                                        | bytes per row, width 2048 |
|-------|------------------------------------------------------------|---------------------------|
| fp32  | hidden × float32                                           | 8192                      |
| fp16  | float32 scale, hidden × float16                            | 4100                      |
| bf16  | hidden × bfloat16                                          | 4096                      |
| int8  | scale, outliers, hidden × int8                             | 2124                      |
| int4  | scale, outliers, a byte for 16 values, hidden × four bits  | 1228                      |
| –     | to width 256: scale, outliers, hidden × five to eight bits | (172 at 256, 64 at 64)    |

Residual streams reach 10⁵ times their typical size in a few dimensions. Float formats have the range, or
scale such a row; the others keep each row's largest values apart (`outliers.py`, `marked.py`).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from shared.errors import CodecError
from shared.tensors.floats import BF16, FP16, FP32
from shared.tensors.int4 import INT4
from shared.tensors.int8 import INT8
from shared.tensors.row_format import RowFormat, Rows

# A little below float32's largest: what a codec's rounding adds must not reach infinity at the receiver.
_LARGEST: Final = 3.3e38


class Codec(NamedTuple):
    """A way to write rows of hidden states."""

    name: str
    row_format: RowFormat

    def row_bytes(self, hidden_size: int) -> int:
        """Bytes of one row.

        Raises:
            CodecError: the codec has no rows of that width.
        """
        return self.row_format.layout(hidden_size).itemsize

    def encode(self, rows: Tensor) -> bytes:
        """Bytes of `rows`.

        Args:
            rows: `(tokens, hidden)` of any float dtype, finite.

        Returns:
            `tokens × row_bytes(hidden)` bytes.

        Raises:
            CodecError: a value is NaN, infinite or nearly so.
        """
        values: Rows = rows.detach().to(device="cpu", dtype=torch.float32).contiguous().numpy()
        if not np.abs(values).max(initial=0.0) <= _LARGEST:  # NaN is in no order
            msg = "hidden states hold NaN or infinity: the model overflowed; load it in float32 or bfloat16"
            raise CodecError(msg)
        records = np.empty(len(values), self.row_format.layout(values.shape[1]))
        self.row_format.write(values, records)
        return records.tobytes()

    def decode(self, data: bytes, count: int, hidden_size: int) -> Tensor:
        """Rows from bytes that a peer sent.

        Returns:
            `(count, hidden_size)` float32, all finite.

        Raises:
            CodecError: a wrong length, a value that is not finite, an outlier outside its row (the
                sender's fault).
        """
        width = self.row_bytes(hidden_size)
        if len(data) != count * width:
            msg = (
                f"{len(data)} bytes of states; {count} rows of width {hidden_size} in codec {self.name} "
                f"are {count * width}: edge and worker disagree on the codec or the model"
            )
            raise CodecError(msg)
        rows = self._read(data, hidden_size)
        if not bool(np.isfinite(rows).all()):
            msg = f"states in codec {self.name} hold NaN or infinity"
            raise CodecError(msg)
        return torch.from_numpy(rows)

    def _read(self, data: bytes, hidden_size: int) -> Rows:
        records = np.frombuffer(data, self.row_format.layout(hidden_size))
        with np.errstate(over="ignore", invalid="ignore"):  # a peer's factor may be anything; see decode
            return self.row_format.read(records, hidden_size)


CODECS: Final[dict[str, Codec]] = {
    name: Codec(name, row_format)
    for name, row_format in (
        ("fp32", FP32),
        ("fp16", FP16),
        ("bf16", BF16),
        ("int8", INT8),
        ("int4", INT4),
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
