"""Promises from finitely many texts: p-values for a mean loss, and tests in a fixed order.

Learn then Test: for each candidate the hypothesis "its mean loss is above what was promised" is tested;
rejecting it certifies the candidate. Tested from the strictest to the laxest and only up to the first that
is not rejected, all certified ones hold together with the confidence of one test.

The p-value is a bet against the hypothesis. Capital starts at 1 and is multiplied by
`1 - bet * (loss - promised)` for each text; if the hypothesis were true it would not grow on average, so
that capital of c has probability 1/c at most (Ville). Losses here are shares of an answer's tokens, seldom
all or nothing: a bet makes use of that, where Hoeffding's and Bentkus' inequalities assume the worst.

Source: Angelopoulos et al., Learn then Test (arXiv 2110.01052), section 2; Waudby-Smith and Ramdas,
Estimating means of bounded random variables by betting (arXiv 2010.09686), section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# A bet of 1 could be lost whole by one text; the largest leaves something.
BETS: Final = tuple(round(0.01 * step, 2) for step in range(1, 100))
_LARGEST_BET: Final = BETS[-1]


def p_value(losses: Sequence[float] | Floats, promised: float, bet: float) -> float:
    """How likely such small losses are if their mean is above `promised`.

    Args:
        losses: independent, each in [0, 1], in an order that does not depend on them.
        promised: mean loss that is to be kept, below 1.
        bet: between 0 and 1, chosen without looking at `losses`.
    """
    growth = np.log1p(-bet * (np.asarray(losses, dtype=np.float64) - promised))
    highest = float(np.max(np.cumsum(growth), initial=0.0))
    return math.exp(-highest)


def best_bet(losses: Sequence[float] | Floats, promised: float) -> float:
    """The bet that would have won most on other texts' losses."""
    values = np.asarray(losses, dtype=np.float64)
    return max(BETS, key=lambda bet: float(np.log1p(-bet * (values - promised)).sum()))


def least_texts(promised: float, confidence: float) -> int:
    """How many texts it takes to certify anything, even if no loss is seen on any of them."""
    return math.ceil(-math.log(1.0 - confidence) / math.log1p(_LARGEST_BET * promised))


def certified(p_values: Sequence[float], confidence: float) -> int:
    """How many candidates, from the first on, are certified; none beyond the first failure."""
    for index, value in enumerate(p_values):
        if value > 1.0 - confidence:
            return index
    return len(p_values)


def most_failures(trials: int, chance: float, confidence: float = 0.95) -> int:
    """The most failures among `trials` that a true failure rate of `chance` explains.

    More would come up with a probability below `1 - confidence`.
    """
    total = 0.0
    for failures in range(trials + 1):
        total += math.comb(trials, failures) * chance**failures * (1.0 - chance) ** (trials - failures)
        if total >= confidence:
            return failures
    return trials
