"""What counts as memory being short: the machine's trouble, never the session's."""

from __future__ import annotations

import pytest
import torch

from cloud_worker.engine import is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4096 bytes"),
        RuntimeError("could not create a primitive descriptor for the matmul primitive"),
        RuntimeError("could not execute a primitive"),
    ],
    ids=str,
)
def test_short_memory_is_told_by_its_words(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("not enough memory")],
    ids=str,
)
def test_a_broken_product_is_not_short_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)
