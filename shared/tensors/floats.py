"""Rows as floating point numbers: fp32, fp16 with a factor where it would overflow, bf16."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from shared.tensors.row_format import Records, RowFormat, Rows

_FP16_MAX: Final = 60000.0  # a little below 65,504: rounding must not reach infinity


@lru_cache
def _fp32_layout(hidden: int) -> np.dtype[Any]:
    return np.dtype([("values", "<f4", (hidden,))])


def _write_fp32(rows: Rows, records: Records) -> None:
    records["values"] = rows


def _read_fp32(records: Records, _hidden: int) -> Rows:
    return records["values"].astype(np.float32)  # a copy: the bytes belong to the message


@lru_cache
def _fp16_layout(hidden: int) -> np.dtype[Any]:
    return np.dtype([("scale", "<f4"), ("values", "<f2", (hidden,))])


def _write_fp16(rows: Rows, records: Records) -> None:
    """Residual streams pass float16's largest: such a row is halved until it fits, which loses nothing."""
    over = np.maximum(np.abs(rows).max(axis=1) / _FP16_MAX, 1.0)
    scale = np.exp2(np.ceil(np.log2(over)))
    records["scale"] = scale
    fitting = rows if bool((scale == 1.0).all()) else rows / scale[:, None]
    records["values"] = torch.from_numpy(fitting).half().numpy()  # several times faster than numpy's


def _read_fp16(records: Records, _hidden: int) -> Rows:
    halves = torch.from_numpy(np.ascontiguousarray(records["values"]).copy())
    rows: Rows = halves.float().numpy()
    rows *= records["scale"][:, None]
    return rows


@lru_cache
def _bf16_layout(hidden: int) -> np.dtype[Any]:
    return np.dtype([("values", "<u2", (hidden,))])


def _write_bf16(rows: Rows, records: Records) -> None:
    records["values"] = bf16_bits(rows)


def _read_bf16(records: Records, _hidden: int) -> Rows:
    return bf16_values(records["values"])


def bf16_bits(values: Rows) -> npt.NDArray[np.uint16]:
    """Values of any shape, rounded to bfloat16 and as its bits."""
    bits: npt.NDArray[np.uint16] = torch.from_numpy(values).bfloat16().view(torch.uint16).numpy()
    return bits


def bf16_values(bits: npt.NDArray[np.uint16]) -> Rows:
    """The values of bfloat16's bits, as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


FP32: Final = RowFormat(_fp32_layout, _write_fp32, _read_fp32)
FP16: Final = RowFormat(_fp16_layout, _write_fp16, _read_fp16)
BF16: Final = RowFormat(_bf16_layout, _write_bf16, _read_bf16)
