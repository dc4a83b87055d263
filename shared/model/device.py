"""Where a worker's model runs, and in what: chosen by what the machine has."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from shared.errors import ConfigError
from shared.model.precision import FLOAT32, Precision, precision_named
from shared.model.prepacked import PrepackedLinear, can_prepack

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


def worker_device(wish: str, weights: str, *, chosen: bool = True) -> tuple[torch.device, Precision]:
    """The device of `worker.device`, and what `worker.weights` are kept in there.

    Args:
        wish: `cpu`, `cuda`, or `auto`: CUDA where there is one.
        weights: the name of a precision.
        chosen: somebody chose these weights; else float32 becomes bfloat16 where `auto` is CUDA.

    Raises:
        ConfigError: CUDA is wished for and not there, or the device can't compute in such weights.
    """
    device = _device(wish)
    if wish == "auto" and device == CUDA and weights == "float32" and not chosen:
        weights = "bfloat16"
    precision = precision_named(weights, str(device))
    if precision == FLOAT32 and can_prepack(device, precision.dtype):
        precision = replace(precision, linear=PrepackedLinear.load)
    return device, precision


def wait_for(result: Tensor) -> None:
    """Until it is computed: a GPU is still at work when torch returns, and a forward's time would be none."""
    if result.device.type == CUDA.type:
        torch.cuda.synchronize(result.device)


def _device(wish: str) -> torch.device:
    if wish == "cpu" or (wish == "auto" and not torch.cuda.is_available()):
        return CPU
    if not torch.cuda.is_available():
        msg = (
            "worker.device is cuda, but torch finds no CUDA device: install its driver and a torch build "
            "for CUDA, or set worker.device to auto or cpu"
        )
        raise ConfigError(msg)
    return CUDA
