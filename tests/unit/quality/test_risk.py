"""A promise that is not true is certified no more often than the confidence allows."""

from __future__ import annotations

import numpy as np
import pytest

from ops.quality.calibrate import check_enough
from ops.quality.risk import best_bet, certified, least_texts, most_failures, p_value
from shared.errors import ConfigError

PROMISED = 0.05
TRIALS = 800


def losses_of(rng: np.random.Generator, kind: str, count: int, mean: float) -> np.ndarray:
    """Losses in [0, 1] with the given mean: all or nothing, or shares of a token or two."""
    if kind == "all or nothing":
        return (rng.random(count) < mean).astype(float)
    return (rng.random(count) < 4 * mean) * 0.25


@pytest.mark.parametrize("kind", ["all or nothing", "shares"])
@pytest.mark.parametrize("texts", [80, 400])
def test_a_loss_just_above_the_promise_is_seldom_certified(kind: str, texts: int):
    """The p-value is below 5 % in at most 5 % of trials, bets being chosen on other texts."""
    rng = np.random.default_rng(7)
    wrong = 0
    for _ in range(TRIALS):
        bet = best_bet(losses_of(rng, kind, 100, PROMISED * 0.4), PROMISED)
        wrong += p_value(losses_of(rng, kind, texts, PROMISED), PROMISED, bet) <= 0.05
    assert wrong <= most_failures(TRIALS, 0.05, 0.999)


def test_a_loss_far_below_the_promise_is_certified():
    rng = np.random.default_rng(8)
    bet = best_bet(losses_of(rng, "shares", 200, 0.01), PROMISED)
    assert p_value(losses_of(rng, "shares", 400, 0.01), PROMISED, bet) < 0.01


def test_partial_losses_certify_more_than_total_ones_of_the_same_mean():
    """Why bets: a text that differs in one token of many is no failed text."""
    rng = np.random.default_rng(9)
    found = {}
    for kind in ("all or nothing", "shares"):
        sample = losses_of(rng, kind, 2000, 0.025)
        found[kind] = p_value(sample[:400], PROMISED, best_bet(sample[400:], PROMISED))
    assert found["shares"] < found["all or nothing"]


def test_no_candidate_beyond_the_first_failure_is_certified():
    assert certified([0.0, 0.01, 0.2, 0.0, 0.0], 0.95) == 2
    assert certified([0.2, 0.0], 0.95) == 0
    assert certified([0.01, 0.05], 0.95) == 2


@pytest.mark.parametrize(("promised", "confidence"), [(0.05, 0.95), (0.01, 0.95), (0.1, 0.8)])
def test_the_least_texts_are_just_enough_without_any_loss(promised: float, confidence: float):
    least = least_texts(promised, confidence)
    bet = best_bet([0.0], promised)
    assert p_value([0.0] * least, promised, bet) <= 1.0 - confidence
    assert p_value([0.0] * (least - 1), promised, bet) > 1.0 - confidence


def test_too_few_texts_are_refused_with_the_number_that_would_do():
    with pytest.raises(ConfigError, match=r"fewer than 305.*Give at least (\d+) texts") as refusal:
        check_enough(300, 0.99, 0.95)
    needed = int(str(refusal.value).split("Give at least ")[1].split()[0])
    check_enough(needed, 0.99, 0.95)
    with pytest.raises(ConfigError):
        check_enough(needed - 1, 0.99, 0.95)


def test_failures_that_chance_explains():
    assert most_failures(20, 0.05) == 3  # P(at most 2) = 92.5 %, P(at most 3) = 98.4 %
    assert most_failures(1, 0.0) == 0
