"""Reading a bundle's own safetensors, checked against the names and shapes the model needs.

A matrix may be stored in eight bits: int8 rows, and beside them `NAME.scale`, one factor for each row. It is
written out in the wanted dtype when it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from shared.errors import BundleError

Shape = tuple[int, ...]

SCALE_SUFFIX = ".scale"
_INT8_MAX = 127
# Rows of a matrix that are turned into eight bits at once, so that no whole copy in fp32 is ever held.
_ROWS_AT_ONCE = 1024


def quantise_rows(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix in eight bits.

    Args:
        matrix: (rows, columns), any float dtype.

    Returns:
        int8 (rows, columns) in ±127, and fp32 (rows,): the factor that gives a row back.
    """
    values = matrix.float()
    scale = values.abs().amax(dim=1) / _INT8_MAX
    return (values / scale.clamp_min(torch.finfo(torch.float32).tiny)[:, None]).round().to(torch.int8), scale


def restore_rows(rows: Tensor, scale: Tensor) -> Tensor:
    """What `quantise_rows` took, as near as eight bits keep it: fp32 (rows, columns)."""
    return rows.float() * scale[:, None]


class WeightFile:
    """One opened safetensors file; tensors are read when asked for."""

    def __init__(self, path: Path, handle: Any) -> None:
        self.path = path
        self._handle = handle
        self.names = frozenset(handle.keys())

    def read(self, name: str, shape: Shape, dtype: torch.dtype) -> Tensor:
        """The tensor `name`, in `dtype`. Without a conversion it stays a view of the mapped file.

        Raises:
            BundleError: it is missing or of another shape.
        """
        return self.read_stored(name, shape).to(dtype)

    def read_stored(self, name: str, shape: Shape) -> Tensor:
        """The tensor `name` in the dtype that the file has it in; one in eight bits in fp32.

        Raises:
            BundleError: it is missing or of another shape.
        """
        tensor = self._get(name, shape)
        return restore_rows(tensor, self._scale(name, shape)) if tensor.dtype == torch.int8 else tensor

    def read_rows(self, name: str, shape: Shape) -> tuple[Tensor, Tensor]:
        """The matrix `name` in eight bits, as `quantise_rows` returns it.

        Where the file has it so, the digits are a view of the mapped file and were never anything else.

        Raises:
            BundleError: it is missing or of another shape.
        """
        tensor = self._get(name, shape)
        if tensor.dtype == torch.int8:
            return tensor, self._scale(name, shape)
        parts = [quantise_rows(part) for part in torch.split(tensor, _ROWS_AT_ONCE)]
        return torch.cat([rows for rows, _ in parts]), torch.cat([scale for _, scale in parts])

    def _get(self, name: str, shape: Shape) -> Tensor:
        if name not in self.names:
            raise BundleError(f"{self.path} lacks {name}. Prepare the bundle again.")
        tensor: Tensor = self._handle.get_tensor(name)
        if tuple(tensor.shape) != shape:
            raise BundleError(
                f"{self.path}: {name} is {tuple(tensor.shape)}, not {shape}. Prepare the bundle again."
            )
        return tensor

    def _scale(self, name: str, shape: Shape) -> Tensor:
        # A copy: a view would keep the file mapped for a few numbers.
        return self._get(name + SCALE_SUFFIX, shape[:1]).float().clone()

    def shape(self, name: str) -> Shape:
        """The shape of the tensor `name`."""
        return tuple(self._handle.get_slice(name).get_shape())

    def fill(
        self, module: nn.Module, prefix: str, dtype: torch.dtype, linear: MakeLinear | None = None
    ) -> nn.Module:
        """Give a module that was made on the meta device its weights, ready for inference.

        Args:
            module: whose weights.
            prefix: of their names in the file.
            dtype: theirs in memory.
            linear: makes what stands for each linear layer, from its weights; None: they stay.
        """
        if linear is not None:
            self._replace_linears(module, prefix, linear)
        state = {
            name: self.read(f"{prefix}.{name}", tuple(weight.shape), dtype)
            for name, weight in module.state_dict().items()
        }
        if linear is not None:
            state = {name: weight.clone() for name, weight in state.items()}  # no view keeps the file mapped
        module.load_state_dict(state, assign=True)
        return module.eval().requires_grad_(requires_grad=False)

    def _replace_linears(self, module: nn.Module, prefix: str, make: MakeLinear) -> None:
        found = [(name, part) for name, part in module.named_modules() if isinstance(part, nn.Linear)]
        for name, part in found:
            module.set_submodule(name, make(self, f"{prefix}.{name}", part))


MakeLinear = Callable[[WeightFile, str, nn.Linear], nn.Module]
"""From a file, a layer's name in it and the layer on the meta device to what does its work."""


@contextmanager
def open_weights(path: Path, device: str = "cpu") -> Iterator[WeightFile]:
    """Open a safetensors file; its tensors are read onto `device`.

    Raises:
        BundleError: it is no safetensors file, or cut short.
    """
    try:
        with safe_open(path, framework="pt", device=device) as handle:
            yield WeightFile(path, handle)
    except (SafetensorError, OSError) as error:
        raise BundleError(
            f"{path} is no whole safetensors file: {error}. Prepare the bundle again."
        ) from error


def read_all(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file, in fp32, eight-bit matrices written out.

    Raises:
        BundleError: it is no safetensors file, or cut short.
    """
    with open_weights(path) as weights:
        names = sorted(name for name in weights.names if not name.endswith(SCALE_SUFFIX))
        return {name: weights.read(name, weights.shape(name), torch.float32) for name in names}


def shapes_of(module: nn.Module) -> Mapping[str, Shape]:
    """Names and shapes of a module's weights."""
    return {name: tuple(weight.shape) for name, weight in module.state_dict().items()}
