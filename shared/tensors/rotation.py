"""A rotation that makes a row's values alike, so that few levels fit them all.

The row becomes a matrix that is multiplied from both sides with small orthogonal matrices: a Kronecker
product, two matrix products of a few microseconds instead of one large one. Powers of two have a
Hadamard matrix (Ashkboos et al., QuaRot, arXiv 2404.00456), other sizes the discrete Hartley
transform's. Both are symmetric, so the rotation is its own inverse.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from shared.tensors.row_format import Rows


def rotated(rows: Rows) -> Rows:
    """Rotate each row by itself, `(count, width)`; twice is not at all."""
    left, right = _factors(rows.shape[1])
    # numpy multiplies matrix by matrix: a row's result does not depend on the rows beside it.
    turned: Rows = np.matmul(np.matmul(left, rows.reshape(len(rows), len(left), len(right))), right)
    return turned.reshape(rows.shape)


@lru_cache
def _factors(width: int) -> tuple[Rows, Rows]:
    """Orthogonal matrices whose sizes multiply to `width`, as near to each other as they can be."""
    small = next(size for size in range(math.isqrt(width), 0, -1) if width % size == 0)
    return _orthogonal(small), _orthogonal(width // small)


def _orthogonal(size: int) -> Rows:
    """Symmetric and orthogonal, `(size, size)`."""
    if size & (size - 1) == 0:
        return _hadamard(size)
    angles = 2.0 * np.pi / size * np.outer(np.arange(size), np.arange(size))
    matrix: Rows = ((np.cos(angles) + np.sin(angles)) / math.sqrt(size)).astype(np.float32)
    return matrix


def _hadamard(size: int) -> Rows:
    """Sylvester's, of a power of two."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return (matrix / math.sqrt(size)).astype(np.float32)
