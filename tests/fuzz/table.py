"""The table of a fuzz run."""

from __future__ import annotations

from tests.fuzz.judge import Tally

_HEAD = (
    "target",
    "by",
    "executions",
    "decoded",
    "refused",
    "crashes",
    "seconds",
    "slowest",
    "peak",
    "growth",
)


def table(tallies: list[Tally], *, head: bool = True) -> str:
    """Markdown, one row per target."""
    lines = [_line(_HEAD), _line(["---", "---", *["---:"] * (len(_HEAD) - 2)])] if head else []
    return "\n".join([*lines, *(_line(_cells(tally)) for tally in tallies)])


def _cells(tally: Tally) -> list[str]:
    counts = (tally.executions, tally.decoded, tally.refused, tally.crashes)
    sizes = (f"{tally.peak_mib:.0f} MiB", f"{tally.growth_mib:.0f} MiB")
    cells = [tally.target, tally.engine, *(f"{count:,}" for count in counts), f"{tally.seconds:.0f}"]
    return [*cells, f"{tally.slowest_ms:.1f} ms", *sizes, *([tally.failure] if tally.failure else [])]


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
