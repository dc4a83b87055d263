"""Which layers keep a kernel for every number of rows that they meet, and so should meet few.

oneDNN compiles a kernel for every shape of product that it meets and keeps it: about 0.5 MB for each number
of rows and each shape of matrix. A worker meets every number of rows, and grew by hundreds of MB, as a soak
showed; neither ONEDNN_PRIMITIVE_CACHE_CAPACITY nor LRU_CACHE_CAPACITY bounds that. So its forwards are filled
up to few sizes (`shared/forward_sizes.py`): those of decoding cost about the same anyway.
"""

from __future__ import annotations

import torch
from torch import nn


def keeps_kernels(layer: nn.Module) -> bool:
    """Whether a layer's products are oneDNN's: all but plain fp32 ones, which are MKL's, are taken to be."""
    linear = [module for module in layer.modules() if isinstance(module, nn.Linear)]
    return not linear or any(module.weight.dtype != torch.float32 for module in linear)
