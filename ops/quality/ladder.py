"""The whole ladder in one process: every rung's word on a text, for many texts in one forward.

The stages are the installation's own, states go through the installation's codec. What is left out is
the network: it changes no token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np
import torch
from torch import Tensor

from edge_agent.constraint import Constraint
from ops.quality.policy import Missing
from ops.quality.question import Question
from ops.quality.spread import Floats, Spread, best_token, spread
from ops.quality.tree import Branch, Place
from shared.model.bundle import Bundle
from shared.model.cache import most_room
from shared.model.loading import load_cloud, load_edge
from shared.model.precision import FLOAT32, Precision
from shared.model.stage import Segment, Stage, StageCache
from shared.tensors.codec import Codec

# Rows of one forward: enough that matrix products are at full speed, few enough to stay in the caches.
_MAX_ROWS = 1024
_LOSSLESS = "fp32"

Allowed = tuple[int, ...] | None


@dataclass(slots=True)
class Lane:
    """One question's place on the ladder: the text that its caches hold, and the grammar at its end.

    Attributes:
        ids: prompt and answer, as far as the caches have read them.
        answer: the tokens that the grammar has accepted.
    """

    question: Question
    caches: list[StageCache]
    ids: list[int] = field(default_factory=list)
    answer: tuple[int, ...] = ()
    grammar: Constraint | None = None

    def grammar_after(self, answer: tuple[int, ...]) -> Constraint:
        """The grammar behind `answer`; it starts anew where the answer is another than before."""
        if self.grammar is None or answer[: len(self.answer)] != self.answer:
            self.grammar, self.answer = self.question.constraint(), ()
        for token in answer[len(self.answer) :]:
            self.grammar.accept(token)
        self.answer = answer
        return self.grammar

    def cut(self, text: Sequence[int]) -> Sequence[int]:
        """Take the caches back to what they share with `text`; returns what they have to read."""
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self.ids, text, strict=False)))
        same = min(same, len(text) - 1)  # the last row is needed for its logits
        for cache in self.caches:
            cache.truncate(same)
        self.ids = list(text)
        return text[same:]


class _Step:
    """One lane's next branch: forced tokens are taken, `allowed` is what the rungs may choose from."""

    def __init__(self, lane: Lane, missing: Missing, stops: Sequence[int]) -> None:
        self.lane = lane
        self.missing = missing
        self.tokens: list[int] = []
        self.forced = 0
        self.ended = False
        self.allowed: Allowed = None
        self._stops = stops
        if missing.token is None or self._keep(missing.token):
            self._take_forced()

    @property
    def answer(self) -> tuple[int, ...]:
        return (*self.missing.tokens, *self.tokens)

    def branch(self, place: Place | None) -> Branch:
        return Branch(tuple(self.tokens), self.forced, place)

    def _keep(self, token: int) -> bool:
        """Append a token; whether the answer goes on."""
        if token in self._stops:
            self.ended = True
        else:
            self.tokens.append(token)
            self.ended = len(self.answer) >= self.lane.question.max_new_tokens
        return not self.ended

    def _take_forced(self) -> None:
        while True:
            allowed = self.lane.grammar_after(self.answer).allowed()
            if allowed is None or len(allowed) != 1:
                self.allowed = None if allowed is None else tuple(allowed)
                return
            self.forced += 1
            if not self._keep(allowed[0]):
                return


class Ladder:
    """A bundle's stages, exits and cloud in one process.

    Args:
        bundle: holds both sides' weights.
        codec: how states travel to the cloud.
        precision: what both sides' weights are kept in.
    """

    def __init__(self, bundle: Bundle, codec: Codec, precision: Precision = FLOAT32) -> None:
        self.bundle = bundle
        self.codec = codec
        self.edge = load_edge(bundle, precision.dtype, linear=precision.linear)
        self.cloud = load_cloud(bundle, precision.dtype, linear=precision.linear)
        self._lossless = codec.name == _LOSSLESS
        # The cloud stage stands twice: for states from the codec, and for exact ones (the full model).
        self._stages: list[Stage] = [*self.edge.stages, self.cloud.stage, self.cloud.stage]

    @property
    def exits(self) -> int:
        """How many exits the edge has."""
        return len(self.edge.heads)

    def lane(self, question: Question) -> Lane:
        """A place for a question; its caches live as long as it does."""
        return Lane(question, [stage.new_cache() for stage in self._stages])

    def lane_bytes(self, question: Question) -> int:
        """What a question's caches take at most."""
        room = most_room(len(question.prompt) + question.max_new_tokens)
        return sum(stage.cache_bytes(room) for stage in self._stages)

    def extend(self, wanted: Sequence[tuple[Lane, Missing]]) -> list[Branch]:
        """What follows each missing branch; each lane at most once."""
        steps = [_Step(lane, missing, self.bundle.eos_token_ids) for lane, missing in wanted]
        open_steps = [step for step in steps if not step.ended]
        places = iter(self._places(open_steps))
        return [step.branch(None if step.ended else next(places)) for step in steps]

    @torch.inference_mode()
    def _places(self, steps: list[_Step]) -> list[Place]:
        places: list[Place] = []
        group: list[tuple[_Step, Sequence[int]]] = []
        for step in steps:
            rows = step.lane.cut((*step.lane.question.prompt, *step.answer))
            if group and sum(len(ids) for _, ids in group) + len(rows) > _MAX_ROWS:
                places += self._forward(group)
                group = []
            group.append((step, rows))
        return places + (self._forward(group) if group else [])

    def _forward(self, group: list[tuple[_Step, Sequence[int]]]) -> list[Place]:
        """One packed forward through every stage, a place for each lane."""
        ids = torch.tensor([token for _, rows in group for token in rows])
        counts = [len(rows) for _, rows in group]
        last = torch.tensor(counts).cumsum(0) - 1
        exits: list[Floats] = []
        rows: Tensor = ids
        for index, head in enumerate(self.edge.heads):
            rows = self._run(index, rows, group, counts)
            exits.append(head.logits(rows[last]).numpy())
        full, cloud = self._tops(rows, last, group, counts)
        return [
            self._place(step, [logits[line] for logits in exits], full[line], cloud[line])
            for line, (step, _) in enumerate(group)
        ]

    def _tops(
        self, rows: Tensor, last: Tensor, group: list[tuple[_Step, Sequence[int]]], counts: list[int]
    ) -> tuple[Floats, Floats]:
        """(lanes, vocab) logits of the full model, and of the cloud behind the codec."""
        exact = self._run(self.exits + 1, rows, group, counts)
        full: Floats = self.cloud.head.logits(exact[last]).numpy()
        if self._lossless:
            return full, full
        sent = self.codec.decode(self.codec.encode(rows), len(rows), self.bundle.hidden_size)
        received = self._run(self.exits, sent, group, counts)
        return full, self.cloud.head.logits(received[last]).numpy()

    def _run(
        self, index: int, rows: Tensor, group: list[tuple[_Step, Sequence[int]]], counts: list[int]
    ) -> Tensor:
        segments = [
            Segment(step.lane.caches[index], count) for (step, _), count in zip(group, counts, strict=True)
        ]
        return self._stages[index].forward(rows, segments)

    def _place(self, step: _Step, exits: list[Floats], full: Floats, cloud: Floats) -> Place:
        choice = best_token(full, step.allowed)
        spreads: list[Spread] = [spread(logits, step.allowed, choice) for logits in exits]
        return Place(
            length=len(step.lane.ids),
            guesses=tuple(each.token for each in spreads),
            cloud=best_token(cloud, step.allowed),
            full=choice,
            confidences=np.stack([each.confidences for each in spreads]),
            log_probabilities=np.stack([each.log_probabilities for each in spreads]),
        )
