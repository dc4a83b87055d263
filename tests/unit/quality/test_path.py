"""The line of candidates goes from strict to lax, and spends requests where they help."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ops.quality.evidence import auroc
from ops.quality.path import Point, threshold_path

ROWS = 600


def line(confidences: np.ndarray, right: np.ndarray, most_loss: float = 0.3) -> list[Point]:
    return threshold_path(confidences.astype(np.float32), right, np.full(ROWS, 1 / ROWS), most_loss)


def two_exits(seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A shallow exit that is right as often as it is sure, and a deeper one that is right more often."""
    rng = np.random.default_rng(seed)
    confidences = np.stack([rng.random(ROWS), rng.random(ROWS) ** 0.3], axis=1)
    return confidences, rng.random((ROWS, 2)) < confidences


def test_it_starts_where_the_cloud_decides_everything():
    first = line(*two_exits())[0]
    assert first.thresholds == (1.0, 1.0)
    assert (first.loss, first.requests) == (0.0, 1.0)


def test_each_candidate_is_laxer_than_the_one_before():
    for one, then in pairwise(line(*two_exits())):
        assert all(low <= high for low, high in zip(then.thresholds, one.thresholds, strict=True))
        assert then.cost < one.cost


def test_it_ends_with_the_first_candidate_beyond_the_worst_loss():
    path = line(*two_exits(), most_loss=0.05)
    assert all(point.loss <= 0.05 for point in path[:-1])


def test_an_exit_that_is_always_wrong_is_not_opened_while_another_helps():
    confidences, right = two_exits()
    right[:, 0] = False
    path = line(confidences, right, most_loss=0.05)
    assert all(point.thresholds[0] == 1.0 for point in path[:-1])
    assert path[-1].requests < 0.8


def test_a_measure_that_separates_perfectly_scores_one_and_chance_a_half():
    right = np.array([False, False, True, True])
    assert auroc(np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32), right) == 1.0
    assert auroc(np.array([0.4, 0.3, 0.2, 0.1], dtype=np.float32), right) == 0.0
    assert auroc(np.full(4, 0.5, dtype=np.float32), right) == 0.5
