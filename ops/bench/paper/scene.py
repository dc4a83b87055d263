"""One table in the making: all rows on one model, link, pattern and length of prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from ops.bench.link_proxy import Link
from ops.bench.paper.edge import BLOCKING, CLOUD_ONLY, EXACT, LOOKAHEAD, OURS
from ops.bench.paper.timing import Timing, agreement
from ops.bench.report import BenchTable, Row, Samples

COLUMNS: Final = (
    "row",
    "total ms",
    "÷ cloud",
    "edge",
    "cloud",
    "link",
    "asks %",
    "MB up",
    "MB down",
    "time %",
    "FLOPs %",
    "agrees %",
    "until",
)

_MB_DIGITS: Final = 4


@dataclass(slots=True)
class Scene:
    """Rows by name, each with a timing for every prompt, in the same order.

    Attributes:
        title: of the table.
        link: of all rows.
        scripted: whether the exits say what a script tells them.
        rows: what was measured.
        texts: the unsplit model's answers.
        forms: of the rivals that have a choice, which one it was.
    """

    title: str
    link: Link
    scripted: bool
    rows: dict[str, list[Timing]] = field(default_factory=dict)
    texts: list[tuple[int, ...]] = field(default_factory=list)
    forms: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, timing: Timing) -> None:
        """One more answer of a row."""
        self.rows.setdefault(name, []).append(timing)

    def total_s(self, name: str) -> float:
        """The median time of a row's answers."""
        return median(timing.total_s for timing in self.rows[name])

    def ratio(self, name: str, other: str) -> float | None:
        """How long a row takes, beside another: over the same prompts; None where one of them is missing."""
        ratios = self.ratios(name, other)
        return median(ratios) if ratios else None

    def ratios(self, name: str, other: str) -> list[float]:
        """The same, answer by answer; none where one of them is missing."""
        if name not in self.rows or other not in self.rows:
            return []
        pairs = zip(self.rows[name], self.rows[other], strict=True)
        return [ours.total_s / theirs.total_s for ours, theirs in pairs]

    def answers(self) -> dict[str, list[dict[str, float]]]:
        """Every answer's figures, by row, for machines."""
        return {name: [timing.figures() for timing in timings] for name, timings in self.rows.items()}

    def broken(self) -> list[str]:
        """The promised equalities of texts that don't hold, in words."""
        found = []
        both = LOOKAHEAD in self.rows and BLOCKING in self.rows
        if both and self._texts(LOOKAHEAD) != self._texts(BLOCKING):
            found.append(f"{self.title}: the text with lookahead is not the blocking one")
        if EXACT in self.rows and self._texts(EXACT) != self.texts:
            found.append(f"{self.title}: the exact text is not the unsplit model's")
        if self.scripted:
            found += [
                f"{self.title}: {name} does not write the script's text"
                for name in OURS
                if name in self.rows and self._texts(name) != self.texts
            ]
        return found

    def table(self, footer: Sequence[Row] = ()) -> BenchTable:
        """The rows as they are shown."""
        return BenchTable(self.title, COLUMNS, [*(self._row(name) for name in self.rows), *footer])

    def _texts(self, name: str) -> list[tuple[int, ...]]:
        return [timing.tokens for timing in self.rows[name]]

    def _row(self, name: str) -> Row:
        timings = self.rows[name]
        marks = [agreement(timing.tokens, text) for timing, text in zip(timings, self.texts, strict=True)]
        return {
            "row": name,
            "total ms": Samples.of([timing.total_s * 1e3 for timing in timings]),
            "÷ cloud": self.ratio(name, CLOUD_ONLY),
            "edge": _middle(timings, lambda timing: timing.edge_s * 1e3),
            "cloud": _middle(timings, lambda timing: timing.cloud_s * 1e3),
            "link": _middle(timings, lambda timing: timing.communication_s * 1e3),
            "asks %": _middle(timings, lambda timing: timing.request_rate * 100),
            "MB up": round(_middle(timings, lambda timing: timing.traffic.up / 1e6), _MB_DIGITS),
            "MB down": round(_middle(timings, lambda timing: timing.traffic.down / 1e6), _MB_DIGITS),
            "time %": self._share(name, lambda timing: timing.cloud_s),
            "FLOPs %": self._share(name, lambda timing: timing.cloud_flops),
            "agrees %": median(mark.share for mark in marks) * 100,
            "until": min(mark.until for mark in marks),
        }

    def _share(self, name: str, of: Callable[[Timing], float]) -> float | None:
        """A row's sum as a percentage of the cloud's that answers alone."""
        if CLOUD_ONLY not in self.rows:
            return None
        whole = sum(map(of, self.rows[CLOUD_ONLY]))
        return 100 * sum(map(of, self.rows[name])) / whole if whole else None


def together(scenes: Sequence[Scene], name: str, other: str) -> float | None:
    """How long a row takes beside another, over all answers of some scenes; None where one is missing."""
    if any(name not in scene.rows or other not in scene.rows for scene in scenes):
        return None
    ours, theirs = (
        sum(timing.total_s for scene in scenes for timing in scene.rows[row]) for row in (name, other)
    )
    return ours / theirs


def _middle(timings: Sequence[Timing], of: Callable[[Timing], float]) -> float:
    return median(map(of, timings))
