"""In how many bits a side keeps its weights, by the names that settings use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import torch

from shared.errors import ConfigError
from shared.model.linear import Int4Linear, Int8Linear
from shared.model.weights import MakeLinear


@dataclass(frozen=True)
class Precision:
    """How weights are kept.

    Attributes:
        dtype: of rows, norms, KV caches, embedding and LM heads.
        linear: makes what stands for the linear layers of each decoder layer; None: they are in `dtype`.
    """

    dtype: torch.dtype
    linear: MakeLinear | None = None


FLOAT32: Final = Precision(torch.float32)
PRECISIONS: Final[Mapping[str, Precision]] = MappingProxyType(
    {
        "float32": FLOAT32,
        "bfloat16": Precision(torch.bfloat16),
        "int8": Precision(torch.float32, Int8Linear.load),
        "int4": Precision(torch.float32, Int4Linear.load),
    }
)


def precision_named(name: str, device: str = "cpu") -> Precision:
    """The precision called `name` (float32, bfloat16, int8 or int4).

    Raises:
        ConfigError: there is none, or `device` can't compute in it.
    """
    try:
        precision = PRECISIONS[name]
    except KeyError:
        msg = f"weights can't be {name!r}: they must be one of {', '.join(PRECISIONS)}"
        raise ConfigError(msg) from None
    if precision.linear is not None and torch.device(device).type != "cpu":
        msg = f"weights can't be {name} on {device}, only on a CPU: choose bfloat16 or float32 there"
        raise ConfigError(msg)
    return precision
