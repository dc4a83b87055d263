"""What a fault report has to show, and where it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from ops.faults.report import FaultReport, FaultRow

# A token of the tiny model takes the edge milliseconds, a catch-up of some hundred rows tens of them; the
# rest is for a machine that is busy with other things.
_TOKEN_S: Final = 0.5
_CATCH_UP_S: Final = 1.0
_BACK_S: Final = 5.0

Figures = Mapping[str, Any]


def promises_broken(report: FaultReport) -> list[str]:
    """What a report shows that must not be, one text for each; empty: every promise is kept."""
    rows = [words for row in report.rows if not row.skipped for words in _row(row)]
    promises = [
        f"{name}: {words}" for name, figures in report.must_show.items() for words in _promise(name, figures)
    ]
    return rows + promises


def _row(row: FaultRow) -> Iterator[str]:
    if row.runs and not row.struck:
        yield f"{row.fault}: it never struck, in {row.runs} runs"
    counted = {
        "answers unlike the oracle's": row.mismatches,
        "tokens or answers lost or doubled": row.lost_or_doubled,
        "answers failed": row.failed_answers,
        "waits or memory beyond their bounds": row.overruns,
    }
    yield from (f"{row.fault}: {count} {what}" for what, count in counted.items() if count)


def _promise(name: str, figures: Figures) -> Iterator[str]:
    for key in ("mismatches", "failures"):
        if figures.get(key):
            yield f"{figures[key]} {key}"
    yield from _TIMES[name](figures) if name in _TIMES else ()


def _broker_gone(figures: Figures) -> Iterator[str]:
    yield from _within(figures, "next_token_s", figures["deadline_s"] + _TOKEN_S)
    yield from _within(figures, "collaborating_again_s", _BACK_S)


def _worker_killed(figures: Figures) -> Iterator[str]:
    yield from _within(figures, "wait_s", figures["deadline_s"] + _CATCH_UP_S)


def _rolling_restart(figures: Figures) -> Iterator[str]:
    if figures["answers"] < figures["sessions"]:
        yield f"{figures['answers']} answers, fewer than {figures['sessions']} sessions"


_TIMES: Final[dict[str, Callable[[Figures], Iterator[str]]]] = {
    "broker_gone": _broker_gone,
    "worker_killed": _worker_killed,
    "rolling_restart": _rolling_restart,
}


def _within(figures: Figures, name: str, most_s: float) -> Iterator[str]:
    """A figure that is missing was never measured: nothing was struck in time."""
    measured = figures.get(name)
    if measured is None:
        yield f"{name} was not measured: every answer was over before it was struck"
    elif measured["most"] > most_s:
        yield f"{name} is {measured['most']:.2f} at most, and may be {most_s:.2f}"
