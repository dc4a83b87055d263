"""A calibration from questions to a bundle's table: everything that `antiphon model calibrate` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ops.quality.calibrate import (
    AGREEMENTS,
    Certified,
    Fit,
    Promise,
    certify,
    check_enough,
    fit,
    parts,
)
from ops.quality.codecs import answer_passages, compare
from ops.quality.costs import costs_of
from ops.quality.evidence import Evidence
from ops.quality.forest import Begin, Forest, unseen
from ops.quality.ladder import Ladder
from ops.quality.levels import calibration_of, level_of
from ops.quality.path import threshold_path
from ops.quality.policy import Reading, unsplit_policy
from ops.quality.question import Question
from ops.quality.risk import least_texts
from ops.quality.spread import MEASURES
from ops.quality.stopwatch import Stopwatch
from shared.errors import ConfigError
from shared.model.calibration import Calibration, CodecScore
from shared.model.confidence import Measure
from shared.tensors.codec import CODECS

# Answers that codecs are compared on: some thousand tokens, of which a few in a thousand differ.
_CODEC_ANSWERS: Final = 500
# Answers that are timed: some hundred decided tokens. Those of homes are short, and few of their tokens
# are the cloud's; each answer to a text is a second of a large model's time.
_TIMED_HOME: Final = 200
_TIMED_TEXT: Final = 24


@dataclass(frozen=True)
class MeasureScore:
    """How well a confidence measure does on the tuning texts.

    Attributes:
        areas: for each exit, the chance that a right guess scores above a wrong one.
        kept: share of tokens that need no request, where the asked agreement is just kept.
    """

    areas: tuple[float, ...]
    kept: float


@dataclass(frozen=True)
class Outcome:
    """A calibration and what was found on the way.

    Attributes:
        calibration: for the bundle.
        measures: each measure's score.
        left_out: agreement → why it can't be promised.
        forest: all answers, for further questions.
    """

    calibration: Calibration
    measures: Mapping[Measure, MeasureScore]
    left_out: Mapping[float, str]
    forest: Forest


def promise_of(agreement: float, confidence: float, measure: Measure) -> Promise:
    """What was asked for, with the usual levels beside it.

    Raises:
        ConfigError: a share that can't be promised.
    """
    for name, value in (("agreement", agreement), ("confidence", confidence)):
        if not 0.0 < value < 1.0:
            raise ConfigError(f"--{name} {value:g}: choose a share between 0 and 1, for example 0.99")
    return Promise(tuple(sorted({*AGREEMENTS, agreement})), confidence, measure)


def calibrate(
    ladder: Ladder,
    questions: Sequence[Question],
    promise: Promise,
    *,
    agreement: float,
    seed: int,
    begin: Begin = unseen,
) -> Outcome:
    """Calibrate a bundle.

    Args:
        ladder: the bundle's.
        questions: independent of each other, like those that will be asked.
        promise: all levels.
        agreement: the one that must be had.
        seed: of the split into tuning and testing texts.
        begin: shows each long part of the work.

    Raises:
        ConfigError: the texts are too few for `agreement`.
    """
    check_enough(len(questions), agreement, promise.confidence)
    forest = Forest(ladder, questions)
    forest.decode([unsplit_policy(ladder.exits)], progress=begin("the full model answers"))
    tuning, testing = parts(range(len(questions)), seed)
    chosen = fit(forest, tuning, promise)
    kept = certify(forest, chosen, tuning, testing, promise, begin("thresholds are tested"))
    tested = [questions[index] for index in testing]
    codecs = _codec_scores(forest, testing[:_CODEC_ANSWERS])
    return Outcome(
        _calibration(ladder, tested, promise, chosen, kept, codecs),
        _scores(chosen.evidence, chosen.reading.temperatures, agreement),
        _left_out(promise, kept, len(testing)),
        forest,
    )


def _codec_scores(forest: Forest, chosen: Sequence[int]) -> list[CodecScore]:
    """Each codec's, on the full model's answers to some of the questions."""
    ladder = forest.ladder
    (answers,) = forest.decode([unsplit_policy(ladder.exits)], chosen)
    passages = answer_passages(ladder, [forest.trees[index].question for index in chosen], answers)
    return [result.score for result in compare(ladder, passages, CODECS.values())] if passages else []


def _calibration(
    ladder: Ladder,
    tested: Sequence[Question],
    promise: Promise,
    chosen: Fit,
    kept: Sequence[Certified],
    codecs: Sequence[CodecScore],
) -> Calibration:
    policies = [each.policy for each in kept]
    timed = _TIMED_HOME if ladder.bundle.kind == "home" else _TIMED_TEXT
    times = Stopwatch(ladder).compare(tested[:timed], policies, rounds=1)
    costs = costs_of(ladder.bundle, ladder.codec)
    levels = [level_of(each, costs, spent) for each, spent in zip(kept, times, strict=True)]
    traces = kept[0].traces if kept else []
    return calibration_of(ladder, promise, chosen.reading, levels, traces, codecs)


def _scores(
    evidence: Evidence, temperatures: tuple[float, ...], agreement: float
) -> dict[Measure, MeasureScore]:
    """Each measure with a line of candidates of its own, so that none is judged by another's thresholds."""
    found: dict[Measure, MeasureScore] = {}
    for measure in MEASURES:
        reading = Reading((measure,) * evidence.exits, temperatures)
        path = threshold_path(evidence.read(reading), evidence.right, evidence.weights, 1.0 - agreement)
        least = min(point.requests for point in path if point.loss <= 1.0 - agreement)
        found[measure] = MeasureScore(evidence.separation(measure, temperatures), 1.0 - least)
    return found


def _left_out(promise: Promise, kept: Sequence[Certified], tested: int) -> dict[float, str]:
    there = {each.agreement for each in kept}
    reasons = {}
    for agreement in promise.agreements:
        if agreement not in there:
            least = least_texts(1.0 - agreement, promise.confidence)
            few = f"needs at least {least} texts to test on, there are {tested}"
            reasons[agreement] = few if tested < least else "no candidate kept it"
    return reasons
