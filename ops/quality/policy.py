"""Which rung decides: an exit policy as a calibration varies it, and an answer decoded under it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple

from ops.quality.spread import MEASURES, TEMPERATURES
from ops.quality.tree import Place, Tree
from shared.model.confidence import MAX_PROBABILITY, Measure

ALWAYS = -1.0  # a threshold that every confidence passes
NEVER = 1.0


class Reading(NamedTuple):
    """How confidences are read off logits: a measure and a temperature of the grid for each exit."""

    measures: tuple[Measure, ...]
    temperatures: tuple[float, ...]

    @property
    def indices(self) -> list[tuple[int, int]]:
        """For each exit, where its confidence stands in a place's table."""
        return [
            (MEASURES.index(measure), nearest_temperature(temperature))
            for measure, temperature in zip(self.measures, self.temperatures, strict=True)
        ]


class Policy(NamedTuple):
    """One way to answer.

    Attributes:
        thresholds: one for each exit.
        reading: what the confidences are.
        unsplit: the full model answers alone, from exact states.
    """

    thresholds: tuple[float, ...]
    reading: Reading
    unsplit: bool = False


class Decision(NamedTuple):
    """One decided token: where, by which rung (the exits in order, then the cloud), and which."""

    place: Place
    rung: int
    token: int

    @property
    def agrees(self) -> bool:
        """Whether it is the full model's choice there."""
        return self.token == self.place.full


@dataclass(slots=True)
class Trace:
    """One answer.

    Attributes:
        tokens: without the stop token.
        forced: how many tokens were forced, a stop token included.
        decisions: the others.
    """

    tokens: list[int]
    forced: int
    decisions: list[Decision]

    @property
    def agreement(self) -> float:
        """Share of the decided tokens that are the full model's choice; an answer without any agrees."""
        if not self.decisions:
            return 1.0
        return sum(decision.agrees for decision in self.decisions) / len(self.decisions)


class Missing(NamedTuple):
    """A branch that is not in the tree: `token` kept at `place`, after the answer `tokens`."""

    place: Place | None
    token: int | None
    tokens: tuple[int, ...]


def nearest_temperature(value: float) -> int:
    """Index of the grid's temperature that is nearest to `value`."""
    return min(range(len(TEMPERATURES)), key=lambda index: abs(TEMPERATURES[index] - value))


def unsplit_policy(exits: int) -> Policy:
    """The full model alone."""
    return Policy((NEVER,) * exits, plain_reading(exits), unsplit=True)


def exit_alone(index: int, exits: int) -> Policy:
    """Every token from one exit."""
    thresholds = tuple(ALWAYS if place == index else NEVER for place in range(exits))
    return Policy(thresholds, plain_reading(exits))


def plain_reading(exits: int) -> Reading:
    """The largest probability, at temperature 1."""
    return Reading((MAX_PROBABILITY,) * exits, (1.0,) * exits)


def walk(tree: Tree, policy: Policy) -> Generator[Missing, None, Trace]:
    """Decode one answer; yields each branch that the tree lacks, and goes on when it has been added."""
    trace = Trace([], 0, [])
    indices = policy.reading.indices
    if tree.root is None:
        yield Missing(None, None, ())
    branch = tree.root
    while True:
        assert branch is not None
        trace.tokens += branch.tokens
        trace.forced += branch.forced
        place = branch.place
        if place is None:
            return trace
        rung, token = _decide(place, policy, indices)
        trace.decisions.append(Decision(place, rung, token))
        if token not in place.after:
            yield Missing(place, token, tuple(trace.tokens))
        branch = place.after[token]


def _decide(place: Place, policy: Policy, indices: list[tuple[int, int]]) -> tuple[int, int]:
    """The rung that decides and its token: the first exit that is sure, else the cloud."""
    if policy.unsplit:
        return len(place.guesses), place.full
    for rung, (measure, temperature) in enumerate(indices):
        if place.confidences[rung, measure, temperature] > policy.thresholds[rung]:
            return rung, place.guesses[rung]
    return len(place.guesses), place.cloud
