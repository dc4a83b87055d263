"""How often the cloud confirms what an unsure exit would have said, on the home model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from ops.quality.forest import Forest
from ops.quality.ladder import Ladder
from ops.quality.policy import Reading, unsplit_policy
from ops.quality.question import home_questions
from ops.quality.sources import REPORT_SEED, Tasks, generated
from ops.quality.tree import Place
from shared.bundles import bundle_path
from shared.errors import ConfigError
from shared.model.bundle import Bundle
from shared.tensors.codec import codec_named

_HOME: Final = "home"


class Confirmed(NamedTuple):
    """A share and what it was taken from.

    Attributes:
        share: of the deepest exit's unsure guesses, those that are the full model's token.
        unsure: how many there were. tokens: among how many that were decided.
    """

    share: float
    unsure: int
    tokens: int


def home_confirmed(thresholds: Sequence[float], requests: int) -> dict[float, Confirmed]:
    """Measure the share along the full model's own answers to generated requests.

    Args:
        thresholds: each of them is taken for every exit.
        requests: how many are generated.

    Returns:
        The share at each threshold.

    Raises:
        ConfigError: every exit was sure of every token: there is nothing to take a share of.
    """
    bundle = Bundle.open(bundle_path(_HOME))
    tasks = Tasks(bundle)
    asked = generated(tasks, requests, REPORT_SEED)
    forest = Forest(Ladder(bundle, codec_named("fp16")), home_questions(bundle, tasks, asked))
    traces = forest.decode([unsplit_policy(len(bundle.partition.exits))])[0]
    places = [decision.place for trace in traces for decision in trace.decisions]
    reading = Reading(tuple(bundle.measures), tuple(bundle.temperatures))
    return {threshold: _confirmed(places, reading, threshold) for threshold in thresholds}


def _confirmed(places: Sequence[Place], reading: Reading, threshold: float) -> Confirmed:
    unsure = [place for place in places if _is_unsure(place, reading, threshold)]
    if not unsure:
        raise ConfigError(
            f"no exit was unsure of any of {len(places)} tokens at threshold {threshold:g}: give the share "
            "with --confirmed"
        )
    right = sum(place.guesses[-1] == place.full for place in unsure)
    return Confirmed(right / len(unsure), len(unsure), len(places))


def _is_unsure(place: Place, reading: Reading, threshold: float) -> bool:
    confidences = (
        place.confidences[index, measure, temperature]
        for index, (measure, temperature) in enumerate(reading.indices)
    )
    return all(confidence <= threshold for confidence in confidences)
