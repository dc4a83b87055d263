"""Thresholds with a promise: temperatures, a line of candidates, and the test of each on other texts.

Texts are shuffled and split. The *tuning* part chooses temperatures, the line of candidates (`path.py`) and
the bets (`risk.py`); the *testing* part decodes each candidate for real, each answer along its own text,
and certifies (`risk.py`). What is promised is the mean over answers of the share of decided tokens that
the full model would have chosen after the same text, for texts like those given.

Source: Schuster et al., Confident Adaptive Language Modeling (arXiv 2207.07061), section 4.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ops.quality.evidence import Evidence
from ops.quality.forest import Forest, Progress
from ops.quality.path import Point, threshold_path
from ops.quality.policy import Policy, Reading, Trace, unsplit_policy
from ops.quality.risk import best_bet, certified, least_texts, p_value
from shared.errors import ConfigError
from shared.model.confidence import Measure

# Offered beside the one that was asked for, as far as the texts suffice.
AGREEMENTS: Final = (0.95, 0.98, 0.99, 0.995, 0.999)
_TUNING_SHARE: Final = 0.3
# The line of candidates goes on somewhat beyond the laxest promise: its losses are estimates.
_BEYOND: Final = 2.0
_AT_ONCE: Final = 8  # candidates that are decoded before the test looks

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Promise:
    """What is asked of a calibration.

    Attributes:
        agreements: ascending.
        confidence: of each.
        measure: of the exits' confidence.
    """

    agreements: tuple[float, ...]
    confidence: float
    measure: Measure


@dataclass(frozen=True)
class Fit:
    """What the tuning texts chose.

    Attributes:
        reading: measure and temperatures.
        path: candidates, strictest first.
        evidence: what they were chosen by.
    """

    reading: Reading
    path: list[Point]
    evidence: Evidence

    @property
    def policies(self) -> list[Policy]:
        """The candidates."""
        return [Policy(point.thresholds, self.reading) for point in self.path]


@dataclass(frozen=True)
class Certified:
    """A kept promise: the laxest policy that passed, and its answers to the testing texts."""

    agreement: float
    policy: Policy
    traces: list[Trace]

    @property
    def measured(self) -> float:
        """Mean agreement of the answers."""
        return float(np.mean([trace.agreement for trace in self.traces]))


def parts(indices: Sequence[int], seed: int) -> tuple[list[int], list[int]]:
    """Texts for tuning and for testing, shuffled."""
    shuffled = list(indices)
    random.Random(seed).shuffle(shuffled)  # noqa: S311  not for secrets
    tuning = round(_TUNING_SHARE * len(shuffled))
    return shuffled[:tuning], shuffled[tuning:]


def check_enough(texts: int, agreement: float, confidence: float) -> None:
    """Refuse before any work is done.

    Raises:
        ConfigError: so few texts could not certify `agreement` even if no token differed.
    """
    least = least_texts(1.0 - agreement, confidence)
    testing = texts - round(_TUNING_SHARE * texts)
    if testing >= least:
        return
    needed = next(
        count for count in range(texts, 10 * least) if count - round(_TUNING_SHARE * count) >= least
    )
    raise ConfigError(
        f"{texts} texts are too few: {testing} of them are left to test on, and an agreement of "
        f"{agreement:g} can't be promised with a confidence of {confidence:g} on fewer than {least}, even if "
        f"no token differs. Give at least {needed} texts, or ask for a lower agreement or confidence."
    )


def fit(forest: Forest, tuning: Sequence[int], promise: Promise) -> Fit:
    """Choose temperatures and the line of candidates."""
    exits = forest.ladder.exits
    (full,) = forest.decode([unsplit_policy(exits)], tuning)
    evidence = Evidence.of(full)
    reading = Reading((promise.measure,) * exits, evidence.best_temperatures())
    most_loss = _BEYOND * (1.0 - promise.agreements[0])
    path = threshold_path(evidence.read(reading), evidence.right, evidence.weights, most_loss)
    return Fit(reading, path, evidence)


def certify(
    forest: Forest,
    chosen: Fit,
    tuning: Sequence[int],
    testing: Sequence[int],
    promise: Promise,
    progress: Progress | None = None,
) -> list[Certified]:
    """For each promise that the testing texts support, the laxest candidate that keeps it.

    `progress` is called with the candidates tested and in all; the test may end before the last.
    """
    test = _Test(promise)
    policies = chosen.policies
    for start in range(0, len(policies), _AT_ONCE):
        some = policies[start : start + _AT_ONCE]
        tuned, tested = forest.decode(some, tuning), forest.decode(some, testing)
        for policy, bets, traces in zip(some, tuned, tested, strict=True):
            test.add(policy, _losses(bets), traces)
        if progress is not None:
            progress(min(start + _AT_ONCE, len(policies)), len(policies))
        if test.is_over:
            break
    return test.kept()


class _Test:
    """Candidates as they come, and what each promise made of them."""

    def __init__(self, promise: Promise) -> None:
        self._promise = promise
        self._p_values: dict[float, list[float]] = {agreement: [] for agreement in promise.agreements}
        self._best: dict[float, Certified] = {}

    def add(self, policy: Policy, tuned: Floats, traces: list[Trace]) -> None:
        losses = _losses(traces)
        for agreement, values in self._p_values.items():
            promised = 1.0 - agreement
            values.append(p_value(losses, promised, best_bet(tuned, promised)))
            if certified(values, self._promise.confidence) == len(values):
                self._best[agreement] = Certified(agreement, policy, traces)

    @property
    def is_over(self) -> bool:
        """Whether every promise has met its first failure."""
        confidence = self._promise.confidence
        return all(certified(values, confidence) < len(values) for values in self._p_values.values())

    def kept(self) -> list[Certified]:
        return [self._best[agreement] for agreement in self._promise.agreements if agreement in self._best]


def _losses(traces: Sequence[Trace]) -> Floats:
    return np.array([1.0 - trace.agreement for trace in traces])
