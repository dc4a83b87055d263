"""The rotation: it loses nothing, for any width, and makes a row's values alike."""

from __future__ import annotations

import numpy as np
import pytest

from shared.tensors.rotation import rotated


def rows(width: int) -> np.ndarray:
    return np.random.default_rng(width).standard_normal((3, width)).astype(np.float32)


@pytest.mark.parametrize("width", [1, 2, 16, 48, 67, 80, 256, 2032, 2048])
def test_rotating_twice_gives_the_row_back(width: int):
    values = rows(width)
    assert np.allclose(rotated(rotated(values)), values, atol=1e-5)


@pytest.mark.parametrize("width", [16, 67, 80, 2048])
def test_lengths_stay_as_they_are(width: int):
    values = rows(width)
    lengths = np.linalg.norm(rotated(values), axis=1)
    assert np.allclose(lengths, np.linalg.norm(values, axis=1), rtol=1e-5)


@pytest.mark.parametrize("width", [48, 80, 2048])
def test_a_single_large_value_is_spread_over_all(width: int):
    values = np.zeros((1, width), dtype=np.float32)
    values[0, 7] = 1.0
    assert np.abs(rotated(values)).max() <= 2.01 / np.sqrt(width)
