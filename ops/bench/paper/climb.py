"""One session on consecutive rungs of a ladder; each catches up when it is asked, and may be taken back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ops.bench.paper.script import Script
from ops.quality.costs import StageCost, costs_of
from shared.model.bundle import Bundle
from shared.model.confidence import Measure
from shared.model.heads import ExitHead
from shared.model.loading import CloudModel, EdgeModel
from shared.model.sampling import GREEDY, Draw, draw
from shared.model.stage import Segment, Stage, StageCache
from shared.tensors.codec import codec_named


@dataclass(frozen=True)
class Rung:
    """A stage with the head after it, and what they cost.

    Attributes:
        temperature: divides the head's logits before the confidence is taken.
        measure: what the confidence is.
        threshold: above it the head is sure; the last rung always is.
    """

    stage: Stage
    head: ExitHead
    cost: StageCost
    temperature: float = 1.0
    measure: Measure = "max_probability"
    threshold: float = -1.0


def rungs_of(
    bundle: Bundle, thresholds: Sequence[float], edge: EdgeModel, cloud: CloudModel | None
) -> list[Rung]:
    """A bundle's ladder.

    Args:
        bundle: whose.
        thresholds: one for each exit.
        edge: the edge's stages and exits.
        cloud: the last rung; None: not here.
    """
    costs = costs_of(bundle, codec_named("fp16")).stages
    found = [
        Rung(*parts)
        for parts in zip(
            edge.stages,
            edge.heads,
            costs[: len(edge.stages)],
            bundle.temperatures,
            bundle.measures,
            thresholds,
            strict=True,
        )
    ]
    return found if cloud is None else [*found, Rung(cloud.stage, cloud.head, costs[-1])]


@dataclass(slots=True)
class Climb:
    """A session's place on the ladder.

    Attributes:
        rungs: the whole ladder, or its lower part.
        script: what the exits say; None: what they think.
        compute_s: time in stages and heads.
        flops: operations in them.
    """

    rungs: Sequence[Rung]
    script: Script | None = None
    compute_s: float = 0.0
    flops: int = 0
    _caches: list[StageCache] = field(init=False)
    _pending: list[list[Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        self._caches = [rung.stage.new_cache() for rung in self.rungs]
        self._pending = [[] for _ in self.rungs]

    def frontier(self, rung: int) -> int:
        """The first position that a rung has not seen."""
        return self._caches[rung].frontier

    def feed(self, rung: int, rows: Tensor) -> None:
        """Rows that come from elsewhere wait for a rung: ids (n,), or states (n, hidden)."""
        self._pending[rung].append(rows)

    def is_waiting(self, rung: int) -> bool:
        """Whether rows wait for a rung."""
        return bool(self._pending[rung])

    @torch.inference_mode()
    def run(self, rung: int) -> Tensor:
        """Let a rung take all that waits for it; its rows then wait for the next one.

        Returns:
            (n, hidden), the rows that it has made.
        """
        started_s = time.perf_counter()
        inputs = torch.cat(self._pending[rung])
        self._pending[rung].clear()
        cache, place = self._caches[rung], self.rungs[rung]
        start = cache.frontier
        rows = place.stage.forward(inputs, [Segment(cache, len(inputs))])
        if rung + 1 < len(self.rungs):
            self._pending[rung + 1].append(rows)
        self.flops += place.cost.forward(start, cache.frontier) - place.cost.head
        self.compute_s += time.perf_counter() - started_s
        return rows

    @torch.inference_mode()
    def draw(
        self, rung: int, rows: Tensor, allowed: Sequence[tuple[int, ...] | None], position: int
    ) -> list[Draw]:
        """What a rung's head says after some rows.

        Args:
            rung: whose head.
            rows: (n, hidden), of positions that follow one another.
            allowed: for each row the ids that may come; None: all.
            position: of the first token to draw: the first row's own and one.

        Returns:
            One for each row.
        """
        started_s = time.perf_counter()
        place = self.rungs[rung]
        drawn = [
            draw(
                logits,
                GREEDY,
                position + index,
                confidence_temperature=place.temperature,
                allowed=ids,
                measure=place.measure,
            )
            for index, (logits, ids) in enumerate(zip(place.head.logits(rows), allowed, strict=True))
        ]
        self.flops += place.cost.head * len(drawn)
        self.compute_s += time.perf_counter() - started_s
        return drawn

    def guess(self, rung: int, row: Tensor, allowed: tuple[int, ...] | None, position: int) -> Draw:
        """What an exit says after one row (1, hidden): by its head, or by the script in its place."""
        drawn = self.draw(rung, row, [allowed], position)[0]
        return drawn if self.script is None else Draw(*self.script.says(position, rung))

    def is_sure(self, rung: int, drawn: Draw) -> bool:
        """Whether an exit's guess is the token."""
        return drawn.confidence > self.rungs[rung].threshold

    def cut(self, length: int) -> None:
        """Forget the positions from `length` on, on every rung."""
        for cache in self._caches:
            cache.truncate(length)
        for rung in range(1, len(self.rungs)):
            self._cut_pending(rung, self._caches[rung - 1].frontier - self._caches[rung].frontier)
        self._pending[0].clear()

    def _cut_pending(self, rung: int, rows: int) -> None:
        waiting = self._pending[rung]
        if sum(map(len, waiting)) > rows:
            self._pending[rung] = [torch.cat(waiting)[:rows]] if rows > 0 else []
