"""Answers of a bundle, once by whole heads and once by the cheap ways: the texts must be equal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import torch
from torch import Tensor

from ops.quality.question import Question
from shared.model.bundle import Bundle
from shared.model.chooser import Chooser, Way
from shared.model.confidence import Measure
from shared.model.head_screen import HeadScreen
from shared.model.heads import ExitHead
from shared.model.loading import CloudModel, EdgeModel, load_cloud, load_edge
from shared.model.sampling import GREEDY, Draw, draw
from shared.model.stage import Segment, Stage
from shared.wire.messages import Sampling


class Head(Protocol):
    """What gives an exit's token."""

    def draw(
        self,
        row: Tensor,
        sampling: Sampling,
        position: int,
        *,
        allowed: Sequence[int] | None = None,
        threshold: float | None = None,
    ) -> Draw:
        """See `Chooser.draw`."""
        ...


class WholeHead:
    """An exit that multiplies by all of its LM head."""

    def __init__(self, head: ExitHead, temperature: float, measure: Measure) -> None:
        self._head = head
        self._temperature = temperature
        self._measure = measure

    def draw(
        self,
        row: Tensor,
        sampling: Sampling,
        position: int,
        *,
        allowed: Sequence[int] | None = None,
        threshold: float | None = None,  # noqa: ARG002  of no use to it
    ) -> Draw:
        """Draw from all logits."""
        logits = self._head.logits(row)[0]
        temperature, measure = self._temperature, self._measure
        return draw(
            logits, sampling, position, confidence_temperature=temperature, allowed=allowed, measure=measure
        )


class Unsure(NamedTuple):
    """A place where the first exit was not sure: how sure it was, and whether the last one was sure."""

    confidence: float
    last_is_sure: bool


@dataclass(slots=True)
class TextCost:
    """What answers took.

    Attributes:
        texts: ids of each answer.
        forced: tokens that the grammar forced.
        decided: the others.
        head_s, stage_s: time of each head, and of each edge stage that took one row.
        ways: how draws were made.
        unsure: for skipping heads.
    """

    texts: list[list[int]] = field(default_factory=list)
    forced: int = 0
    decided: int = 0
    head_s: list[float] = field(default_factory=list)
    stage_s: list[float] = field(default_factory=list)
    ways: Counter[Way] = field(default_factory=Counter)
    unsure: list[Unsure] = field(default_factory=list)


@dataclass(frozen=True)
class Exits:
    """How a bundle's exits decide."""

    thresholds: tuple[float, ...]
    temperatures: tuple[float, ...]
    measures: tuple[Measure, ...]


class Answerer:
    """Both sides of a bundle in one process.

    Args:
        bundle: whose answers.
        exits: when its exits are sure.
        dtype: of the weights.
    """

    def __init__(self, bundle: Bundle, exits: Exits, dtype: torch.dtype = torch.float32) -> None:
        self._stops = frozenset(bundle.eos_token_ids)
        self._edge: EdgeModel = load_edge(bundle, dtype)
        self._cloud: CloudModel = load_cloud(bundle, dtype)
        self._exits = exits
        self._screens: dict[int, HeadScreen] = {}

    def by_whole_heads(self, questions: Sequence[Question], sampling: Sampling = GREEDY) -> TextCost:
        """Answer with all logits at every exit."""
        measures = self._exits.measures
        options = zip(self._edge.heads, self._exits.temperatures, measures, strict=True)
        return self._answers(questions, [WholeHead(*each) for each in options], sampling)

    def by_choosers(self, questions: Sequence[Question], sampling: Sampling = GREEDY) -> TextCost:
        """Answer by the cheap ways, screens included however small the vocabulary is."""
        options = zip(self._edge.heads, self._exits.temperatures, self._exits.measures, strict=True)
        choosers = [Chooser(*each, self._screen(each[0].matrix)) for each in options]
        cost = self._answers(questions, choosers, sampling)
        for each in choosers:
            cost.ways += each.ways
        return cost

    def _screen(self, matrix: Tensor) -> HeadScreen:
        if matrix.data_ptr() not in self._screens:
            self._screens[matrix.data_ptr()] = HeadScreen(matrix)
        return self._screens[matrix.data_ptr()]

    def _answers(self, questions: Sequence[Question], heads: Sequence[Head], sampling: Sampling) -> TextCost:
        cost = TextCost()
        for question in questions:
            text = _Text([*self._edge.stages, self._cloud.stage], list(question.prompt))
            start = len(text.ids)
            self._answer(text, question, heads, sampling, cost)
            cost.texts.append(text.ids[start:])
        return cost

    @torch.inference_mode()
    def _answer(
        self, text: _Text, question: Question, heads: Sequence[Head], sampling: Sampling, cost: TextCost
    ) -> None:
        grammar = question.constraint()
        for _ in range(question.max_new_tokens):
            allowed = grammar.allowed()
            if allowed is not None and len(allowed) == 1:
                token = allowed[0]
                cost.forced += 1
            else:
                token = self._token(text, heads, sampling, allowed, cost)
                cost.decided += 1
            if token in self._stops:
                return
            grammar.accept(token)
            text.ids.append(token)

    def _token(
        self,
        text: _Text,
        heads: Sequence[Head],
        sampling: Sampling,
        allowed: Sequence[int] | None,
        cost: TextCost,
    ) -> int:
        """Up the ladder to the first sure exit, or the cloud."""
        confidences: list[float] = []
        for index, (head, threshold) in enumerate(zip(heads, self._exits.thresholds, strict=True)):
            row = text.catch_up(index, cost)
            started_s = time.perf_counter()
            token, confidence = head.draw(row, sampling, len(text.ids), allowed=allowed, threshold=threshold)
            cost.head_s.append(time.perf_counter() - started_s)
            confidences.append(confidence)
            if index + 1 == len(heads) and len(heads) > 1:
                cost.unsure.append(Unsure(confidences[0], confidence > threshold))
            if confidence > threshold:
                return token
        row = text.catch_up(len(heads), cost)
        return draw(self._cloud.head.logits(row)[0], sampling, len(text.ids), allowed=allowed).token


_EDGE_ROWS: Final = 1  # stages are timed on decode, not on prompts and forced tokens


class _Text:
    """A text and every stage's place in it."""

    def __init__(self, stages: Sequence[Stage], ids: list[int]) -> None:
        self.ids = ids
        self._stages = stages
        self._caches = [stage.new_cache() for stage in stages]
        self._pending: list[list[Tensor]] = [[] for _ in stages]

    def catch_up(self, index: int, cost: TextCost) -> Tensor:
        """Run a stage over all that it has not seen; its last row, (1, hidden)."""
        inputs = self._inputs(index)
        started_s = time.perf_counter()
        rows = self._stages[index].forward(inputs, [Segment(self._caches[index], len(inputs))])
        if len(inputs) == _EDGE_ROWS and index + 1 < len(self._stages):
            cost.stage_s.append(time.perf_counter() - started_s)
        if index + 1 < len(self._stages):
            self._pending[index + 1].append(rows)
        return rows[-1:]

    def _inputs(self, index: int) -> Tensor:
        if index == 0:
            return torch.tensor(self.ids[self._caches[0].frontier :])
        rows = torch.cat(self._pending[index])
        self._pending[index].clear()
        return rows
