"""Linear layers in eight and four bits: near the float ones, and each row by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from shared.errors import BundleError, ConfigError
from shared.model import linear as linear_module
from shared.model.linear import Int4Linear, Int8Linear
from shared.model.precision import PRECISIONS, precision_named
from shared.model.weights import open_weights, quantise_rows

OUTLIER = 1e5
# Sizes on both sides of the one from which weights are packed, and one that fills no group of four bits.
SIZES = [(48, 40), (64, 256), (1024, 512)]


def matrix(outputs: int, inputs: int) -> Tensor:
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(3))


def rows_of(count: int, width: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(5))


def layer(kind: str, outputs: int, inputs: int, bias: Tensor | None = None) -> nn.Module:
    weights = matrix(outputs, inputs)
    return Int4Linear(weights, bias) if kind == "int4" else Int8Linear(*quantise_rows(weights), bias)


def error(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


def other_products(outputs: int, inputs: int) -> tuple[Tensor, Tensor]:
    """One batch through both kinds of integer product."""
    rows, scale = quantise_rows(matrix(outputs, inputs))
    digits = (rows_of(9, inputs) * 30).round().clamp(-127, 127)
    kinds = (linear_module._StoredProducts, linear_module._PackedProducts)
    stored, packed = (kind(rows, scale)(digits) for kind in kinds)
    return stored, packed


@pytest.mark.parametrize(("kind", "bound"), [("int8", 0.015), ("int4", 0.1)])
@pytest.mark.parametrize(("outputs", "inputs"), SIZES)
def test_the_product_is_near_the_float_one(kind: str, bound: float, outputs: int, inputs: int) -> None:
    rows = rows_of(6, inputs)
    assert error(layer(kind, outputs, inputs)(rows), rows @ matrix(outputs, inputs).T) < bound


@pytest.mark.parametrize("count", [2, 3, 8, 17])
@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize(("outputs", "inputs"), SIZES)
def test_a_row_is_the_same_to_the_bit_beside_a_neighbours_outlier(
    kind: str, outputs: int, inputs: int, count: int
) -> None:
    """One scale for a whole batch would leave the others no digits at all."""
    quantised = layer(kind, outputs, inputs)
    rows = rows_of(count, inputs)
    alone = [quantised(row[None])[0] for row in rows[:-1]]
    rows[-1, 7] = OUTLIER
    together = quantised(rows)
    assert all(torch.equal(one, both) for one, both in zip(alone, together, strict=False))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_row_that_is_not_finite_shows_and_spoils_no_other(kind: str, bad: float) -> None:
    quantised = layer(kind, 64, 256)
    rows = rows_of(3, 256)
    expected = quantised(rows)
    rows[1, 0] = bad
    outputs = quantised(rows)
    assert torch.equal(outputs[[0, 2]], expected[[0, 2]])
    assert not torch.isfinite(outputs[1]).any()


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_rows_of_zeros_give_the_bias(kind: str) -> None:
    bias = torch.linspace(-1, 1, 48)
    outputs = layer(kind, 48, 40, bias)(torch.zeros(2, 40))
    torch.testing.assert_close(outputs, bias.expand(2, -1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_shape_and_dtype_are_those_of_the_inputs(kind: str) -> None:
    outputs = layer(kind, 48, 40)(rows_of(6, 40).view(1, 2, 3, 40).to(torch.bfloat16))
    assert (outputs.shape, outputs.dtype) == ((1, 2, 3, 48), torch.bfloat16)


def test_both_integer_products_are_equal_to_the_bit() -> None:
    """So the size of a matrix decides about time alone."""
    stored, packed = other_products(1024, 512)
    assert torch.equal(stored, packed)


def test_a_large_matrix_is_packed_and_a_small_one_is_not() -> None:
    assert isinstance(layer("int8", 1024, 512)._products, linear_module._PackedProducts)
    assert isinstance(layer("int8", 512, 512)._products, linear_module._StoredProducts)


def test_four_bits_in_parts_are_four_bits_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, rows = layer("int4", 256, 64), rows_of(2, 64)
    monkeypatch.setattr(linear_module, "_ROWS_AT_ONCE", 128)
    assert torch.equal(layer("int4", 256, 64)(rows), whole(rows))


def test_a_cpu_that_multiplies_bytes_wrongly_is_told_what_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made up: no CPU that saturates is at hand."""

    class Saturating(linear_module._StoredProducts):
        def __call__(self, digits: Tensor) -> Tensor:
            return super().__call__(digits).clamp(max=2.0**15)

    monkeypatch.setattr(linear_module, "_StoredProducts", Saturating)
    linear_module._check_integer_products.cache_clear()
    with pytest.raises(ConfigError, match="choose bfloat16, int4"):
        linear_module._check_integer_products()
    linear_module._check_integer_products.cache_clear()


def test_eight_bits_of_the_file_are_used_as_they_are(tmp_path: Path) -> None:
    rows, scale = quantise_rows(matrix(8, 16))
    save_file({"a": rows, "a.scale": scale, "b": matrix(8, 16)}, tmp_path / "w")
    with open_weights(tmp_path / "w") as weights:
        stored, made = weights.read_rows("a", (8, 16)), weights.read_rows("b", (8, 16))
        assert torch.equal(stored[0], rows)
        assert torch.equal(stored[1], scale)
        assert all(torch.equal(one, other) for one, other in zip(stored, made, strict=True))
        with pytest.raises(BundleError, match="lacks c"):
            weights.read_rows("c", (8, 16))


def test_precisions_have_the_names_of_the_settings() -> None:
    from typing import get_args

    from shared.config import Weights

    assert set(get_args(Weights)) == set(PRECISIONS)


def test_an_unknown_precision_and_one_of_another_device_are_refused_with_the_fix() -> None:
    with pytest.raises(ConfigError, match="one of float32, bfloat16"):
        precision_named("int3")
    with pytest.raises(ConfigError, match="choose bfloat16 or float32"):
        precision_named("int8", "cuda")
    assert precision_named("bfloat16", "cuda").dtype == torch.bfloat16
