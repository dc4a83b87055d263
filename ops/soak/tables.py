"""The soak's report for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from ops.soak.memory import Trend
from ops.soak.report import SoakReport

MEMORY_NOTE = (
    "MiB/h: slope of resident memory over all processes of a role after their warm-up, each with a level of "
    "its own; 95 % interval for correlated samples. peak: with the warm-up. Short: not judged."
)


def fault_table(report: SoakReport) -> Table:
    """How often each fault struck."""
    table = _table("Faults", "fault", ("struck", "late", "hindered"))
    for name, strikes in sorted(report.faults.items()):
        table.add_row(name, str(strikes.struck), str(strikes.late or ""), str(strikes.hindered or ""))
    return table


def memory_table(memory: Sequence[Trend]) -> Table:
    """What each role's memory did."""
    table = _table("Memory", "role", ("processes", "minutes", "peak MiB", "MiB/h", "95 %", ""))
    for trend in memory:
        table.add_row(
            trend.role,
            str(trend.processes),
            f"{trend.span_s / 60:.1f}",
            f"{trend.peak_mib:.1f}",
            "" if trend.mib_per_h is None else f"{trend.mib_per_h:+.1f}",
            _interval(trend),
            "" if trend.judged else "short",
        )
    return table


def _interval(trend: Trend) -> str:
    if trend.low is None or trend.high is None:
        return "unknown"
    return f"{trend.low:+.1f} … {trend.high:+.1f}"


def _table(title: str, first: str, heads: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column(first, no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    return table
