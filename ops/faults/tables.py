"""The fault report for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from ops.faults.report import FaultReport, FaultRow

_HEADS = ("struck", "wrong", "lost", "fail", "alone", "p50", "p99", "edge", "work")

FAULT_NOTE = (
    "struck: runs in which the fault came while answers were being made, of all. wrong: answers that differ "
    "from what the same stages say in one process with the same degraded positions. lost: tokens or answers "
    "that are missing or there twice. fail: no answer, or degraded where nobody had to go on alone. alone: "
    "tokens that the edge said alone, by design. p50, p99: a run's longest wait for a token over "
    "edge.deadline_s. edge, work: the most MiB of a process of the edge, of a worker."
)


def fault_table(report: FaultReport) -> Table:
    """A row for each fault, a line between targets."""
    table = Table(title="Faults", title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("fault")
    for head in _HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    for row, following in zip(report.rows, [*report.rows[1:], None], strict=True):
        table.add_row(
            row.fault, *_cells(row), end_section=following is None or following.target != row.target
        )
    return table


def markdown_table(rows: Sequence[FaultRow]) -> str:
    """The same for a page."""
    lines = [["fault", *_HEADS], ["---", *["--:"] * len(_HEADS)]]
    lines += [[row.fault, *_cells(row)] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(row: FaultRow) -> list[str]:
    if row.skipped:
        return ["skipped", *[""] * (len(_HEADS) - 1)]
    middle = row.recovery_over_deadline
    return [
        f"{row.struck}/{row.runs}",
        str(row.mismatches),
        str(row.lost_or_doubled),
        str(row.failed_answers),
        str(row.degraded_tokens),
        "" if middle is None else f"{middle.median:.2f}",
        "" if middle is None else f"{row.recovery_p99_over_deadline:.2f}",
        *(f"{row.peak_mib[role]:.0f}" if row.peak_mib.get(role) else "" for role in ("edge", "worker")),
    ]
