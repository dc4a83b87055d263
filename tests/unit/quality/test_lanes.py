"""How many questions are decoded at once, by what their caches take."""

from __future__ import annotations

from ops.quality.forest import lanes


def test_the_larger_a_models_caches_the_fewer_questions_are_decoded_at_once():
    counts = [lanes(megabytes << 20) for megabytes in (1, 30, 200, 5_000)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[1] > counts[2] > 1


def test_one_question_is_always_decoded():
    assert lanes(1 << 50) == 1
    assert lanes(0) > 1


def test_their_caches_stay_within_a_gigabyte():
    assert all(lanes(size << 20) * (size << 20) <= 1 << 30 for size in (1, 7, 90, 512))
