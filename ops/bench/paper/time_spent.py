"""Where the edge's time went in an answer of ours: what was kept, what was in vain, what was waited for."""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NamedTuple

from ops.bench.paper.timeline import REPLY, REWIND, Event, Timeline
from ops.bench.report import BenchTable, Row

EXCERPT_LINES: Final = 20
# So many lines before the question, to see what it came from.
_BEFORE: Final = 2
_COLUMNS: Final = ("at ms", "took ms", "event", "what")


class TimeSpent(NamedTuple):
    """Milliseconds of one answer; together they are the whole of it.

    Attributes:
        kept: forwards of the edge's stages, heads included, whose rows or guesses stand in the text.
        thrown_away: those behind a guess that was refuted.
        refuted: nothing ran, and then the cloud said another token than the one guessed.
        waited: nothing ran until another answer of the cloud came.
        between: neither: the loop, threads, the text.
    """

    kept: float
    thrown_away: float
    refuted: float
    waited: float
    between: float

    @property
    def in_vain(self) -> float:
        """What refuted guesses cost the edge."""
        return self.thrown_away + self.refuted


def time_spent(timeline: Timeline, total_ms: float) -> TimeSpent:
    """Take an answer's time apart.

    Args:
        timeline: what happened in it.
        total_ms: how long it took.
    """
    forwards = timeline.forwards
    thrown = sum(_took(event) for event in forwards if timeline.is_thrown_away(event))
    kept = sum(_took(event) for event in forwards) - thrown
    refuted = waited = 0.0
    for start_ms, end_ms in _gaps(timeline):
        if any(start_ms < each.at_ms <= end_ms for each in timeline.refuted):
            refuted += end_ms - start_ms
        elif any(event.what == REPLY and start_ms < event.at_ms <= end_ms for event in timeline):
            waited += end_ms - start_ms
    return TimeSpent(kept, thrown, refuted, waited, total_ms - kept - thrown - refuted - waited)


def spent_row(title: str, timeline: Timeline, ours_s: float, rival_s: float) -> Row:
    """One answer's time, beside the rival's for the same."""
    spent = time_spent(timeline, ours_s * 1e3)
    return {
        "answer": title,
        "CE-CoLLM": rival_s * 1e3,
        "ours": ours_s * 1e3,
        "ratio": ours_s / rival_s,
        "kept": spent.kept,
        "thrown away": spent.thrown_away,
        "wait, refuted": spent.refuted,
        "wait, else": spent.waited,
        "between": spent.between,
        "in vain %": 100 * spent.in_vain / (ours_s * 1e3),
        "asked": timeline.asked,
        "refuted": len(timeline.refuted),
    }


def excerpt(title: str, timeline: Timeline, lines: int | None = EXCERPT_LINES) -> BenchTable:
    """What happened around the first guess whose refutation cost the edge a forward.

    Args:
        title: of the answer.
        timeline: of it.
        lines: how many of them at most; None: all, from the first one on.
    """
    events = list(timeline)
    if lines is None or lines >= len(events):
        return BenchTable(title, _COLUMNS, [_row(event, timeline) for event in events])
    begin = min(_first_line(events, timeline), len(events) - lines)
    rows = [_row(event, timeline) for event in events[begin : begin + lines]]
    return BenchTable(f"{title}: lines {begin + 1} to {begin + lines} of {len(events)}", _COLUMNS, rows)


def _first_line(events: list[Event], timeline: Timeline) -> int:
    """Where to begin, so that the question, its answer and the rewind are seen."""
    costly = [each for each in timeline.refuted if _cost_a_forward(each.at_ms, each.position, timeline)]
    if not costly:
        return 0
    asked = next(index for index, event in enumerate(events) if event.at_ms >= costly[0].asked_ms)
    return max(0, asked - _BEFORE)


def _cost_a_forward(at_ms: float, position: int, timeline: Timeline) -> bool:
    return any(
        event.position is not None and event.position > position and event.at_ms < at_ms
        for event in timeline.forwards
    )


def _gaps(timeline: Timeline) -> list[tuple[float, float]]:
    """When no stage ran, from the first one's end to the last event; ms."""
    forwards = timeline.forwards
    if not forwards:
        return []
    last_ms = max(event.at_ms for event in timeline if event.what != REWIND)
    inner = [(_end(before), after.at_ms) for before, after in pairwise(forwards)]
    return [gap for gap in [*inner, (_end(forwards[-1]), last_ms)] if gap[0] < gap[1]]


def _row(event: Event, timeline: Timeline) -> Row:
    vain = ", thrown away" if timeline.is_thrown_away(event) else ""
    took = None if event.took_ms is None else round(event.took_ms, 1)
    return {"at ms": round(event.at_ms, 1), "took ms": took, "event": event.what, "what": event.detail + vain}


def _took(event: Event) -> float:
    return event.took_ms or 0.0


def _end(event: Event) -> float:
    return event.at_ms + _took(event)
