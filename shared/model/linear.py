"""Linear layers whose weights are kept in eight or four bits.

Rows of many sessions share a forward, so nothing of a row may depend on its neighbours. Torch's own dynamic
quantisation has one scale for all activations of a batch: one session's outlier takes the digits of all the
others. Here each row has a scale of its own, and its products are integers: a row's result is the same, bit
for bit, whoever else is in the batch and however many they are.
"""

from __future__ import annotations

from functools import cache
from typing import Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from shared.errors import ConfigError
from shared.model.weights import WeightFile

_LEVELS = 127
_TINY = torch.finfo(torch.float32).tiny
# From this many weights on, packing them once beats reading them as stored: a packed product has 20 µs more
# of its own, but one of several rows over a larger matrix arranges all of it anew each time.
_PACKED_FROM = 1 << 19
# How many rows the packed layout is made for; it serves any number. Batches of decoding are of this order.
_PACKED_FOR_ROWS = 8
_ZERO_POINT = 128  # oneDNN multiplies unsigned activations by signed weights
# Weights that share a scale and a zero in four bits. Quality for half a bit more than groups of 64 take.
_GROUP = 32
_OUTPUTS_MULTIPLE = 16  # of the four-bit kernel
# Rows of a matrix that are turned into four bits at once; a multiple of the packed layout's blocks.
_ROWS_AT_ONCE = 1024


class Products(Protocol):
    """Digits times weights."""

    def __call__(self, digits: Tensor) -> Tensor:
        """From (rows, in_features), whole numbers in ±127, to fp32 (rows, out_features)."""


class _StoredProducts:
    """Weights as they are stored: best for a single row, or a small matrix."""

    def __init__(self, rows: Tensor, scale: Tensor) -> None:
        self._columns = rows.t()
        self._scale = scale

    def __call__(self, digits: Tensor) -> Tensor:
        sums = torch._int_mm(digits.to(torch.int8), self._columns)  # noqa: SLF001  torch has no other
        return sums.float().mul_(self._scale)


class _PackedProducts:
    """Weights in the order in which oneDNN reads them: as fast for eight rows as for one."""

    def __init__(self, rows: Tensor, scale: Tensor) -> None:
        shape = [_PACKED_FOR_ROWS, rows.shape[1]]
        self._packed = torch.ops.onednn.qlinear_prepack(rows, shape)
        self._scale = scale
        self._zeros = torch.zeros(len(scale), dtype=torch.int64)

    def __call__(self, digits: Tensor) -> Tensor:
        unsigned = (digits + _ZERO_POINT).to(torch.uint8)
        outputs: Tensor = torch.ops.onednn.qlinear_pointwise(
            unsigned, 1.0, _ZERO_POINT, self._packed, self._scale, self._zeros, None,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return outputs


class Int8Linear(nn.Module):
    """Weights in eight bits by rows, activations in eight bits by rows.

    Both kinds of product sum the same integers and round once, so choosing one changes nothing but time.

    Args:
        rows: int8 (out_features, in_features).
        scale: fp32 (out_features,), the factor that gives a row back.
        bias: fp32 (out_features,).
    """

    def __init__(self, rows: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = rows.shape
        self.nbytes = rows.nbytes + scale.nbytes
        self._products: Products = _products(rows, scale)
        self._bias = bias

    @classmethod
    def load(cls, weights: WeightFile, name: str, linear: nn.Linear) -> Self:
        """What stands for `linear`, whose weights are called `name` in the file.

        Raises:
            BundleError: they are missing or of another shape.
            ConfigError: this CPU can't do it.
        """
        _check_integer_products()
        rows, scale = weights.read_rows(f"{name}.weight", (linear.out_features, linear.in_features))
        return cls(rows, scale, _bias(weights, name, linear))

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in_features) to (…, out_features) of the same dtype."""
        rows = inputs.reshape(-1, self.in_features).float()
        scale = rows.abs().amax(dim=-1, keepdim=True).div_(_LEVELS).clamp_min_(_TINY)  # (rows, 1)
        outputs = self._products((rows / scale).round_()).mul_(scale)
        return _shaped(outputs, self._bias, inputs)


class Int4Linear(nn.Module):
    """Weights in four bits by groups of inputs; activations in bf16, so that outliers cost nothing.

    Made for few rows: it reads half of what eight bits take, but more rows cost more time.

    Args:
        matrix: (out_features, in_features), any float dtype.
        bias: fp32 (out_features,).
    """

    def __init__(self, matrix: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = matrix.shape
        parts = [_four_bits(part) for part in torch.split(matrix, _ROWS_AT_ONCE)]
        self._packed = torch.cat([packed for packed, _ in parts])
        self._groups = torch.cat([groups for _, groups in parts], dim=1)  # (groups, out, 2): scale, zero
        self.nbytes = self._packed.nbytes + self._groups.nbytes
        self._bias = bias

    @classmethod
    def load(cls, weights: WeightFile, name: str, linear: nn.Linear) -> Self:
        """What stands for `linear`, whose weights are called `name` in the file.

        Raises:
            BundleError: they are missing or of another shape.
        """
        shape = (linear.out_features, linear.in_features)
        return cls(weights.read_stored(f"{name}.weight", shape), _bias(weights, name, linear))

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in_features) to (…, out_features) of the same dtype."""
        rows = _even(inputs.reshape(-1, self.in_features).to(torch.bfloat16))
        outputs = torch.ops.aten._weight_int4pack_mm_for_cpu(  # noqa: SLF001  torch has no other
            rows, self._packed, _GROUP, self._groups
        )
        return _shaped(outputs[:, : self.out_features].float(), self._bias, inputs)


def _packing_works() -> bool:
    """Whether this build of torch has oneDNN."""
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _products(rows: Tensor, scale: Tensor) -> Products:
    if rows.numel() >= _PACKED_FROM and _packing_works():
        return _PackedProducts(rows, scale)
    # A view would keep the whole file's pages in memory.
    return _StoredProducts(rows.clone(), scale)


def _bias(weights: WeightFile, name: str, linear: nn.Linear) -> Tensor | None:
    bias: Tensor | None = linear.bias  # torch's annotation forgets None
    if bias is None:
        return None
    return weights.read(f"{name}.bias", (linear.out_features,), torch.float32).clone()


def _shaped(outputs: Tensor, bias: Tensor | None, inputs: Tensor) -> Tensor:
    """(rows, out_features) in the shape and dtype that `inputs` ask for."""
    if bias is not None:
        outputs += bias
    return outputs.to(inputs.dtype).reshape(*inputs.shape[:-1], outputs.shape[-1])


def _even(rows: Tensor) -> Tensor:
    """Columns filled up with zeros to whole groups."""
    missing = -rows.shape[1] % _GROUP
    return pad(rows, (0, missing)) if missing else rows


def _four_bits(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Packed digits, and bf16 (groups, rows, 2): each group's scale, and the value of its eighth digit."""
    whole = _even(pad(matrix.float(), (0, 0, 0, -len(matrix) % _OUTPUTS_MULTIPLE)))
    groups = whole.view(len(whole), -1, _GROUP)
    low, high = groups.amin(-1), groups.amax(-1)
    # As the kernel reads them, rounded, so that the digits are the best for what they will be.
    scale = ((high - low) / 15).clamp_min(_TINY).to(torch.bfloat16)
    zero = (low + 8 * scale.float()).to(torch.bfloat16)
    digits = (groups - zero.float()[..., None]).div_(scale.float()[..., None]).round_().add_(8).clamp_(0, 15)
    packed = torch._convert_weight_to_int4pack_for_cpu(digits.int().view(len(whole), -1), 1)  # noqa: SLF001
    return packed, torch.stack([scale, zero], dim=-1).transpose(0, 1).contiguous()


@cache
def _check_integer_products() -> None:
    """Multiply the largest numbers: some CPUs without VNNI add two products in 16 bits, which overflow.

    Raises:
        ConfigError: this is such a CPU.
    """
    digits = torch.full((_PACKED_FOR_ROWS, 1024), float(_LEVELS))
    rows = torch.full((512, 1024), _LEVELS, dtype=torch.int8)
    exact = float(_LEVELS**2 * 1024)
    kinds: list[type[_StoredProducts | _PackedProducts]]
    kinds = [_StoredProducts, _PackedProducts] if _packing_works() else [_StoredProducts]
    for kind in kinds:
        if not bool((kind(rows, torch.ones(512))(digits) == exact).all()):
            raise ConfigError(
                "this CPU does not multiply eight-bit numbers exactly, so weights can't be int8 on it: "
                "choose bfloat16, int4 or float32"
            )
