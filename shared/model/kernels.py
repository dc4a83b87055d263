"""How many rows a forward has, where each number of them costs memory for good.

oneDNN compiles a kernel for every shape of product that it meets and keeps it: about 0.5 MB for each number
of rows and each shape of matrix. A worker meets every number of rows, and grew by hundreds of MB, as a soak
showed; neither ONEDNN_PRIMITIVE_CACHE_CAPACITY nor LRU_CACHE_CAPACITY bounds that. So its forwards are filled
up to few numbers of rows: those of decoding cost about the same anyway.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

_EVEN_FROM: Final = 256
_STEP: Final = 64


def filled(rows: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16 … 192, 256, and multiples of 64: less than half more."""
    if rows > _EVEN_FROM:
        return -(-rows // _STEP) * _STEP
    power = 1 << (rows - 1).bit_length()
    return 3 * power // 4 if rows <= 3 * power // 4 else power


def keeps_kernels(layer: nn.Module) -> bool:
    """Whether a layer's products are oneDNN's: all but plain fp32 ones, which are MKL's, are taken to be."""
    linear = [module for module in layer.modules() if isinstance(module, nn.Linear)]
    return not linear or any(module.weight.dtype != torch.float32 for module in linear)
