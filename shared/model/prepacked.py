"""Weights laid out for batches: fp32 linear layers whose matrix oneDNN has reordered once, at load.

Without it a forward of a few rows on a CPU reorders every matrix anew: two rows take nearly twice as long as
one, and eight rows too. Reordered once, eight rows take hardly longer than one. The sums are the same, in
another order, so results differ by rounding alone.

The reordered copy takes the place of the weights, which may have been a view of their file: memory of the
process's own, where a file's pages could be shared and dropped. Workers trade that for their sessions.
"""

from __future__ import annotations

from typing import Final, Self

import torch
from torch import Tensor, nn

from shared.model.weights import WeightFile

# What a worker's forward usually has; oneDNN lays the matrix out for it.
_ROWS: Final = 8


def can_prepack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `PrepackedLinear` can stand for linear layers there."""
    is_plain = device.type == "cpu" and dtype == torch.float32
    has_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return is_plain and has_onednn and hasattr(_OPERATORS, "_linear_pointwise")


class PrepackedLinear(nn.Module):
    """Does what the linear layer does that it was made of.

    Args:
        matrix: fp32 (out_features, in_features), on the CPU.
        bias: fp32 (out_features,).
    """

    def __init__(self, matrix: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = matrix.shape
        self._matrix = _OPERATORS._reorder_linear_weight(matrix.detach(), _ROWS)  # noqa: SLF001
        self._bias = bias

    @classmethod
    def load(cls, weights: WeightFile, name: str, linear: nn.Linear) -> Self:
        """What stands for `linear`, whose weights are called `name` in the file.

        Raises:
            BundleError: they are missing or of another shape.
        """
        shape = (linear.out_features, linear.in_features)
        matrix = weights.read(f"{name}.weight", shape, torch.float32)
        bias = None
        if linear.bias is not None:
            bias = weights.read(f"{name}.bias", shape[:1], torch.float32).clone()
        return cls(matrix, bias)

    def forward(self, rows: Tensor) -> Tensor:
        """(…, in_features) to (…, out_features)."""
        out: Tensor = _OPERATORS._linear_pointwise(  # noqa: SLF001
            rows, self._matrix, self._bias, "none", [], ""
        )
        return out


# What torch's compiler makes of frozen linear layers; they have no public name.
_OPERATORS = torch.ops.mkldnn
