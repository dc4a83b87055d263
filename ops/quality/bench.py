"""Measures a bundle's quality and its price, for the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge_agent.rungs import edge_rung
from ops.quality.costs import Costs, costs_of, used
from ops.quality.forest import Forest, Progress
from ops.quality.ladder import Ladder
from ops.quality.levels import decided, rung_shares
from ops.quality.marks import acts, is_invalid, is_refused, is_right, rouge_l
from ops.quality.policy import Policy, Reading, Trace, exit_alone, unsplit_policy
from ops.quality.question import Question, home_questions
from ops.quality.range import Range
from ops.quality.report import Row
from ops.quality.sources import Request, Tasks
from ops.quality.stopwatch import Stopwatch, Times
from shared.model.bundle import Bundle

THETAS: Final = (0.6, 0.7, 0.8, 0.9, 0.95, 1.0)  # one for all exits, from lax to never


@dataclass(frozen=True)
class Setting:
    """One way to answer."""

    name: str
    policy: Policy
    quality: float | None = None

    @property
    def asks(self) -> bool:
        """Whether there is a cloud that could be asked."""
        return not self.policy.unsplit and all(threshold >= 0.0 for threshold in self.policy.thresholds)


def settings_of(bundle: Bundle) -> list[Setting]:
    """The full model, each exit alone, one threshold for all exits, and the bundle's calibrated levels."""
    exits = len(bundle.partition.exits)
    reading = Reading(tuple(bundle.measures), tuple(bundle.temperatures))
    found = [Setting("full model", unsplit_policy(exits))]
    found += [Setting(f"{edge_rung(index)} alone", exit_alone(index, exits)) for index in range(exits)]
    found += [Setting(f"θ {value:g}", Policy((value,) * exits, reading)) for value in THETAS]
    calibration = bundle.calibration
    if calibration is not None:
        calibrated = Reading((calibration.measure,) * exits, calibration.temperatures)
        found += [
            Setting(f"quality {level.agreement:g}", Policy(level.thresholds, calibrated), level.agreement)
            for level in calibration.levels
        ]
    return found


@dataclass(frozen=True)
class Marks:
    """What answers to requests are worth.

    Attributes:
        exact: share that does what was asked, of held-out requests.
        natural_exact: the same of those that people wrote.
        invalid: answers of both that are no action, or not of this home.
        acted_on_refusals: answers of both that act where a refusal is right.
    """

    exact: float
    natural_exact: float | None
    invalid: int
    acted_on_refusals: int


class Bench:
    """One run.

    Args:
        ladder: the bundle's.
        timed: how many questions are timed; they come first.
        rounds: of timing.
        progress: called while answers are decoded.
    """

    def __init__(self, ladder: Ladder, timed: int, rounds: int, progress: Progress | None = None) -> None:
        self._ladder = ladder
        self._timed = timed
        self._rounds = rounds
        self._progress = progress
        self._costs: Costs = costs_of(ladder.bundle, ladder.codec)
        self._tasks = Tasks(ladder.bundle)

    def homes(self, held_out: Sequence[Request], natural: Sequence[Request]) -> list[Row]:
        """A row for each setting, on requests to homes."""
        requests = [*held_out, *natural]
        questions = home_questions(self._ladder.bundle, self._tasks, requests)
        settings = settings_of(self._ladder.bundle)
        answers = self._answers(questions, settings)
        times = self._times(questions, settings)
        rows = []
        for setting, traces, timed in zip(settings, answers, times, strict=True):
            marks = self._marks(requests, traces, len(held_out))
            rows.append(self._row(setting, traces[: len(held_out)], timed, marks=marks))
        return rows

    def texts(self, questions: Sequence[Question]) -> list[Row]:
        """A row for each setting, on texts that are gone on with."""
        settings = settings_of(self._ladder.bundle)
        answers = self._answers(questions, settings)
        decode = self._ladder.bundle.tokenizer().decode
        written = [[str(decode(trace.tokens)) for trace in traces] for traces in answers]
        times = self._times(questions, settings)
        return [
            self._row(setting, traces, timed, rouge=float(np.mean(list(map(rouge_l, written[0], texts)))))
            for setting, traces, timed, texts in zip(settings, answers, times, written, strict=True)
        ]

    def _answers(self, questions: Sequence[Question], settings: Sequence[Setting]) -> list[list[Trace]]:
        forest = Forest(self._ladder, questions)
        return forest.decode([setting.policy for setting in settings], progress=self._progress)

    def _times(self, questions: Sequence[Question], settings: Sequence[Setting]) -> Iterator[Times | None]:
        """Of those settings in which somebody may ask a cloud."""
        policies = [setting.policy for setting in settings if setting.asks]
        timed = iter(Stopwatch(self._ladder).compare(questions[: self._timed], policies, self._rounds))
        return (next(timed) if setting.asks else None for setting in settings)

    def _row(
        self,
        setting: Setting,
        traces: Sequence[Trace],
        times: Times | None,
        *,
        marks: Marks | None = None,
        rouge: float | None = None,
    ) -> Row:
        use, tokens = used(traces, self._costs), max(1, decided(traces))
        forced = sum(trace.forced for trace in traces)
        alone = setting.policy.unsplit
        return Row(
            setting=setting.name,
            thresholds=setting.policy.thresholds,
            quality=setting.quality,
            exact=None if marks is None else marks.exact,
            natural_exact=None if marks is None else marks.natural_exact,
            rouge_l=rouge,
            agreement=float(np.mean([trace.agreement for trace in traces])),
            exit_shares=rung_shares(traces, self._ladder.exits),
            request_rate=use.requests / tokens,
            forced_share=forced / (forced + tokens),
            cloud_time_share=_shares(setting, times),
            cloud_flop_share=1.0 if alone else use.cloud_flops / max(1, use.unsplit_flops),
            uplink_bytes_per_token=None if alone else use.uplink_bytes / tokens,
            invalid_actions=0 if marks is None else marks.invalid,
            wrong_actions_on_refusals=None if marks is None else marks.acted_on_refusals,
        )

    def _marks(self, requests: Sequence[Request], traces: Sequence[Trace], held_out: int) -> Marks:
        right, invalid, acted = [], 0, 0
        for request, trace in zip(requests, traces, strict=True):
            task = self._tasks.of(request.home)
            output = task.decode(trace.tokens)
            action: Any = task.read(request.text, output).action
            right.append(is_right(action, request))
            invalid += is_invalid(output, action, request.home)
            acted += is_refused(request) and acts(action)
        natural = right[held_out:]
        written = float(np.mean(natural)) if natural else None
        return Marks(float(np.mean(right[:held_out])), written, invalid, acted)


def _shares(setting: Setting, times: Times | None) -> Range:
    """Of the yardstick's cloud time; known without a clock where nobody may ask, or nobody else answers."""
    if times is not None:
        return times.cloud_share
    return Range.of([1.0 if setting.policy.unsplit else 0.0])
