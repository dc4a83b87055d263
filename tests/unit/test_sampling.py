"""Counter-based sampling: the same draw wherever and whenever it is made, from the right distribution."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared.model.sampling import GREEDY, draw, gumbel_noise
from shared.wire.messages import Sampling

NOISE_OF_SEED_1_AT_2 = [1.253382, 3.060311, 1.374562]
LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, -5.0])


def test_greedy_takes_the_most_probable_token_with_its_probability():
    token, confidence = draw(LOGITS, Sampling(), 3)
    assert token == 0
    assert confidence == pytest.approx(float(LOGITS.softmax(0)[0]))


def test_the_draw_depends_on_seed_and_position_alone():
    def draws(seed: int) -> list[int]:
        return [draw(LOGITS, Sampling(temperature=1.0, seed=seed), position)[0] for position in range(50)]

    assert draws(11) == draws(11)
    assert draws(11) != draws(12)


def test_noise_is_the_same_on_every_platform():
    assert [round(v, 6) for v in gumbel_noise(1, 2, 3).tolist()] == NOISE_OF_SEED_1_AT_2


def test_draws_follow_the_tempered_distribution():
    sampling = Sampling(temperature=0.7, seed=5)
    counts = torch.zeros(5)
    for position in range(4000):
        counts[draw(LOGITS, sampling, position)[0]] += 1
    expected = (LOGITS / 0.7).softmax(0)
    assert (counts / 4000 - expected).abs().max() < 0.03  # over five standard deviations


def test_a_tiny_temperature_is_greedy_and_never_overflows():
    for temperature in (1e-3, 1e-30, 1e-308):
        sampling = Sampling(temperature=temperature, seed=1)
        assert {draw(LOGITS, sampling, position)[0] for position in range(50)} == {0}


def test_top_k_and_top_p_keep_only_the_likely_tokens():
    top_k = Sampling(temperature=5.0, top_k=2, seed=1)
    assert {draw(LOGITS, top_k, p)[0] for p in range(300)} == {0, 1}
    top_p = Sampling(temperature=1.0, top_p=0.5, seed=1)
    assert {draw(LOGITS, top_p, p)[0] for p in range(300)} == {0}
    wide = Sampling(temperature=1.0, top_p=0.7, seed=1)
    assert {draw(LOGITS, wide, p)[0] for p in range(300)} == {0, 1}


def test_only_allowed_tokens_are_drawn_and_the_confidence_is_about_them():
    logits = torch.tensor([5.0, 1.0, 1.0, 0.0])
    free = draw(logits, GREEDY, 0)
    bound = draw(logits, GREEDY, 0, allowed=[1, 3])
    assert (free.token, bound.token) == (0, 1)
    assert bound.confidence == pytest.approx(float(torch.tensor([1.0, 0.0]).softmax(-1)[0]))


@given(st.lists(st.integers(0, 31), min_size=1, max_size=6, unique=True), st.integers(0, 2**31))
def test_sampling_never_leaves_the_allowed_tokens(allowed, seed):
    logits = torch.randn(32, generator=torch.Generator().manual_seed(seed))
    drawn = draw(logits, Sampling(1.5, 0, 1.0, seed), 3, allowed=sorted(allowed))
    assert drawn.token in allowed


@pytest.mark.parametrize("measure", ["max_probability", "margin", "entropy"])
def test_every_measure_is_low_for_doubt_and_high_for_certainty(measure):
    doubt = draw(torch.zeros(8), GREEDY, 0, measure=measure).confidence
    certain = draw(torch.tensor([60.0] + [0.0] * 7), GREEDY, 0, measure=measure).confidence
    assert doubt <= 1 / 8 + 1e-6
    assert certain > 0.99


def test_a_measure_of_two_allowed_tokens_is_about_the_two():
    logits = torch.tensor([9.0, 1.0, 1.0, -9.0])
    for measure in ("margin", "entropy"):
        assert draw(logits, GREEDY, 0, allowed=[1, 2], measure=measure).confidence == pytest.approx(
            0.0, abs=1e-6
        )
