"""CE-CoLLM and ours over a slow link: pairs of answers, and where the time of ours went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ops.bench.paper.edge import CE_COLLM, LOOKAHEAD
from ops.bench.paper.scene import Scene
from ops.bench.paper.time_spent import EXCERPT_LINES, excerpt, spent_row
from ops.bench.paper.timeline import Timeline
from ops.bench.report import BenchTable, Row, Samples

_TITLE: Final = "SCRIPTED, where the time of ours, lookahead, went: ms of the edge"


@dataclass(slots=True)
class Rivals:
    """Pairs on one link.

    Attributes:
        scene: the two rows, an answer of each for every pair.
        timelines: of ours, one for every pair.
    """

    scene: Scene
    timelines: list[Timeline] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Our time by CE-CoLLM's, pair by pair."""
        return self.scene.ratios(LOOKAHEAD, CE_COLLM)

    def table(self) -> BenchTable:
        """The two rows, and how far the pairs' ratios spread."""
        return self.scene.table([{"row": "ours ÷ CE-CoLLM", "total ms": Samples.of(self.ratios)}])

    def timeline(self, lines: int | None = EXCERPT_LINES) -> BenchTable:
        """Of the first pair: an excerpt, or all of it."""
        return excerpt(
            f"SCRIPTED, what happened when in ours, lookahead, at {self.scene.link}", self.timelines[0], lines
        )

    def spent(self) -> list[Row]:
        """Where the time of each answer of ours went."""
        pairs = zip(self.timelines, self.scene.rows[LOOKAHEAD], self.scene.rows[CE_COLLM], strict=True)
        return [
            spent_row(f"{self.scene.link.rtt_ms:g} ms, pair {number}", timeline, ours.total_s, theirs.total_s)
            for number, (timeline, ours, theirs) in enumerate(pairs, start=1)
        ]


def spent_table(several: Sequence[Rivals]) -> list[BenchTable]:
    """Where the time went on each link; no table without links."""
    rows = [row for rivals in several for row in rivals.spent()]
    return [BenchTable(_TITLE, list(rows[0]), rows)] if rows else []
