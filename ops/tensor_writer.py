"""Writing a safetensors file tensor by tensor, so that a model never has to fit in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor

from shared.model.manifest import FileEntry

DTYPES: Mapping[str, torch.dtype] = {
    "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I8": torch.int8,
}  # fmt: skip
# The header is padded so that data starts at a multiple of this, where every dtype is aligned.
_ALIGNMENT_BYTES = 64


class TensorSpec(NamedTuple):
    """Shape and safetensors dtype of a tensor to come."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size_bytes(self) -> int:
        """Size of the data."""
        return prod(self.shape) * DTYPES[self.dtype].itemsize


class TensorWriter:
    """An open output file. Tensors must come in the order in which they were announced."""

    def __init__(self, file: BinaryIO, specs: Mapping[str, TensorSpec]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        self._pending = iter(specs.items())
        self._put(_header(specs))

    def write(self, name: str, tensor: Tensor) -> int:
        """Write the next tensor, converted to its announced dtype, and return its size in bytes."""
        expected, spec = next(self._pending)
        if name != expected:
            raise ValueError(f"tensor {name} came where {expected} was announced")
        data = tensor.to(DTYPES[spec.dtype]).contiguous().flatten().view(torch.uint8)
        self._put(memoryview(data.numpy()))  # type: ignore[arg-type] # numpy's stubs hide the buffer
        return spec.size_bytes

    def entry(self) -> FileEntry:
        """Size and digest of what was written; complete once every tensor is."""
        missing = [name for name, _ in self._pending]
        if missing:
            raise ValueError(f"tensors announced but never written: {missing}")
        return FileEntry(self._size_bytes, self._hash.hexdigest())

    def _put(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._size_bytes += len(data)


@contextmanager
def open_writer(path: Path, specs: Mapping[str, TensorSpec]) -> Iterator[TensorWriter]:
    """Create `path` and write its header; the file is closed when the block ends."""
    with path.open("xb") as file:
        yield TensorWriter(file, specs)


def _header(specs: Mapping[str, TensorSpec]) -> bytes:
    """Eight bytes of length, then JSON padded with spaces. Source: safetensors format, README."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, spec in specs.items():
        end = offset + spec.size_bytes
        entries[name] = {"dtype": spec.dtype, "shape": spec.shape, "data_offsets": (offset, end)}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT_BYTES)
    return len(text).to_bytes(8, "little") + text
