"""How long the matrices of one decoder layer take in each precision, for few rows and many."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from ops.bench.report import Samples
from shared.model.linear import Int4Linear, Int8Linear
from shared.model.weights import quantise_rows

# A Llama layer: its MLP's width over the model's, and query heads that share a key head.
_MLP: Final = 2.75
_SHARED_BY: Final = 4
_OUTLIER: Final = 1e5


@dataclass(frozen=True)
class SpeedResult:
    """One precision at one width.

    Attributes:
        hidden: the width.
        precision: its name.
        mib: memory of the layer's matrices.
        milliseconds: for one pass through all of them, by rows.
        apart: whether every row's result stayed as it was, to the bit, beside another row's outlier.
    """

    hidden: int
    precision: str
    mib: float
    milliseconds: dict[int, Samples]
    apart: bool


@torch.inference_mode()
def measure_speed(
    hidden: int, precisions: Sequence[str], rows: Sequence[int], runs: int
) -> list[SpeedResult]:
    """Each precision's layer of the same random weights, one after another in every run."""
    generator = torch.Generator().manual_seed(17)
    matrices = [torch.randn(shape, generator=generator) / shape[1] ** 0.5 for shape in _shapes(hidden)]
    layers = {name: [_linear(name, matrix) for matrix in matrices] for name in precisions}
    inputs = {
        (count, width): torch.randn(count, width, generator=generator)
        for count in rows
        for width in {matrix.shape[1] for matrix in matrices}
    }
    times = {
        name: {count: [_pass_ms(layer, inputs, count)] for count in rows} for name, layer in layers.items()
    }
    for _ in range(runs - 1):
        for name, layer in layers.items():
            for count in rows:
                times[name][count].append(_pass_ms(layer, inputs, count))
    return [
        SpeedResult(
            hidden,
            name,
            sum(_size(part) for part in layer) / 2**20,
            {count: Samples.of(found) for count, found in times[name].items()},
            all(_keeps_rows_apart(part, generator) for part in layer),
        )
        for name, layer in layers.items()
    ]


def _shapes(hidden: int) -> list[tuple[int, int]]:
    """(outputs, inputs) of a layer's matrices: query, key, value, output; gate, up, down."""
    key, wide = hidden // _SHARED_BY, int(hidden * _MLP)
    return [(hidden, hidden), (key, hidden), (key, hidden), (hidden, hidden),
            (wide, hidden), (wide, hidden), (hidden, wide)]  # fmt: skip


def _linear(precision: str, matrix: Tensor) -> nn.Module:
    if precision == "int8":
        return Int8Linear(*quantise_rows(matrix), None)
    if precision == "int4":
        return Int4Linear(matrix, None)
    linear = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(matrix.to(getattr(torch, precision)), requires_grad=False)
    return linear


def _size(linear: nn.Module) -> int:
    return linear.weight.nbytes if isinstance(linear, nn.Linear) else int(linear.nbytes)  # type: ignore[arg-type]


def _dtype(linear: nn.Module) -> torch.dtype:
    return linear.weight.dtype if isinstance(linear, nn.Linear) else torch.float32


def _pass_ms(layer: Sequence[nn.Module], inputs: dict[tuple[int, int], Tensor], rows: int) -> float:
    taken = [inputs[rows, int(part.in_features)].to(_dtype(part)) for part in layer]  # type: ignore[arg-type]
    started_s = time.perf_counter()
    for part, rows_in in zip(layer, taken, strict=True):
        part(rows_in)
    return (time.perf_counter() - started_s) * 1000


def _keeps_rows_apart(linear: nn.Module, generator: torch.Generator) -> bool:
    rows = torch.randn(4, int(linear.in_features), generator=generator)  # type: ignore[arg-type]
    rows = rows.to(_dtype(linear))
    calm = linear(rows)
    rows[-1, 0] = _OUTLIER
    return torch.equal(linear(rows)[:-1], calm[:-1])
