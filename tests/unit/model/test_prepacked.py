"""Linear layers whose weights were reordered once compute what they did before."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from shared.errors import ConfigError
from shared.model.device import CPU, worker_device
from shared.model.prepacked import PrepackedLinear, can_prepack
from shared.model.weights import open_weights

pytestmark = pytest.mark.skipif(not can_prepack(CPU, torch.float32), reason="torch comes without oneDNN here")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 3, 8, 65])
def test_it_equals_the_linear_layer(rows: int, bias: bool) -> None:
    torch.manual_seed(1)
    linear = nn.Linear(48, 64, bias=bias)
    packed = PrepackedLinear(linear.weight, linear.bias)
    inputs = torch.randn(1, rows, 48)
    with torch.inference_mode():
        torch.testing.assert_close(packed(inputs), linear(inputs), atol=1e-5, rtol=1e-5)


def test_a_wild_row_leaves_its_neighbours_alone() -> None:
    torch.manual_seed(1)
    packed = PrepackedLinear(torch.randn(64, 48), None)
    calm, wild = torch.randn(3, 48), torch.randn(1, 48) * 1e5
    with torch.inference_mode():
        together = packed(torch.cat([calm, wild]))[:3]
        torch.testing.assert_close(together, packed(calm), atol=1e-5, rtol=1e-5)


def test_it_is_read_from_a_file(tmp_path) -> None:
    linear = nn.Linear(16, 32)
    state = {f"proj.{name}": tensor for name, tensor in linear.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    with open_weights(tmp_path / "weights.safetensors") as weights:
        packed = PrepackedLinear.load(weights, "proj", linear)
    inputs = torch.randn(4, 16)
    with torch.inference_mode():
        torch.testing.assert_close(packed(inputs), linear(inputs), atol=1e-5, rtol=1e-5)


def test_weights_on_another_device_or_of_another_kind_are_left_as_they_are() -> None:
    assert not can_prepack(torch.device("cuda"), torch.float32)
    assert not can_prepack(CPU, torch.bfloat16)


def test_a_cpu_in_float32_prepacks_and_a_quantised_one_does_not() -> None:
    assert worker_device("cpu", "float32")[1].linear == PrepackedLinear.load
    assert worker_device("cpu", "int8")[1].linear != PrepackedLinear.load
    assert worker_device("cpu", "bfloat16")[1].linear is None


def test_on_cuda_chosen_weights_are_kept_to_and_only_the_default_becomes_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    kinds = [
        worker_device(wish, "float32", chosen=chosen)[1].dtype
        for wish, chosen in (("auto", False), ("auto", True), ("cuda", False), ("cpu", False))
    ]
    assert kinds == [torch.bfloat16, torch.float32, torch.float32, torch.float32]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_cuda_device_that_is_not_there_is_named_with_the_fix() -> None:
    assert worker_device("auto", "float32")[0] == CPU
    with pytest.raises(ConfigError, match=r"worker\.device"):
        worker_device("cuda", "float32")
