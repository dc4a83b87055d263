"""`antiphon bench faults`: what fails, what each failure costs, and that no text changes."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from ops.cli_context import console
from ops.commands.options import Deadline, Embedded, FaultNames, JsonFile, MarkdownFile
from shared.log import setup_logging

if TYPE_CHECKING:
    from ops.faults.outcome import Outcome
    from ops.faults.report import FaultReport
    from ops.faults.run import Fault

EXIT_WRONG = 1
_QUICK_RUNS = 3


def faults(
    fault: FaultNames = None,
    runs: Annotated[
        int, typer.Option(min=1, help="Of each fault, one session and eight at once in turn.")
    ] = 20,
    quick: Annotated[bool, typer.Option("--quick", help=f"{_QUICK_RUNS} runs of each fault.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the first run; the others count on from it.")] = 0,
    deadline_s: Deadline = 3.0,
    embedded: Embedded = False,
    list_only: Annotated[bool, typer.Option("--list", help="Name the faults, and make none.")] = False,
    json_file: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Break a small installation of real processes in every known way, and check every answer."""
    from ops.faults.catalog import faults_named

    chosen = faults_named(fault or [])
    if list_only:
        for each in chosen:
            console.print(f"{each.target:8} {each.name}", highlight=False)
        return
    setup_logging("error")
    settings = {"runs": _QUICK_RUNS if quick else runs, "seed": seed, "deadline_s": deadline_s}
    report = asyncio.run(_report(chosen, settings, embedded=embedded, whole=not fault))
    _show(report)
    _write(report, json_file, markdown)
    if any(report.summary[key] for key in ("mismatches", "lost_or_doubled", "failed_answers")):
        raise typer.Exit(EXIT_WRONG)


async def _report(
    chosen: list[Fault], settings: dict[str, Any], *, embedded: bool, whole: bool
) -> FaultReport:
    """Make the faults, and, with the whole catalog, keep the three promises."""
    from ops.faults.bench import FaultBench
    from ops.faults.must_show import must_show
    from ops.faults.report import FaultReport, summary_of
    from ops.faults.versions import versions
    from ops.provenance import commit, machine

    seeds = range(settings["seed"], settings["seed"] + settings["runs"])
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        bench = FaultBench(Path(folder), deadline_s=settings["deadline_s"], embedded=embedded)
        try:
            rows = []
            for fault in chosen:
                with console.status(f"{fault.name} …"):
                    rows.append(await bench.row(fault, seeds, _tell))
            promises = await must_show(bench, settings["runs"]) if whole else {}
        finally:
            bench.close()
    return FaultReport(
        machine(), commit(), versions(embedded=embedded), settings, rows, promises, summary_of(rows)
    )


def _tell(outcome: Outcome) -> None:
    """Say at once what went wrong; what went well is in the table."""
    words = [*outcome.mismatches, *outcome.failures]
    if outcome.lost_or_doubled:
        words.append(f"{outcome.lost_or_doubled} tokens lost or doubled")
    for each in words:
        console.print(
            f"{outcome.fault}, seed {outcome.seed}, {outcome.sessions} sessions: {each}",
            style="red",
            highlight=False,
            markup=False,
        )


def _show(report: FaultReport) -> None:
    from ops.faults.tables import FAULT_NOTE, fault_table

    console.print(fault_table(report))
    console.print(FAULT_NOTE, style="dim", highlight=False)
    for row in report.rows:
        if row.skipped:
            console.print(f"{row.fault}: {row.skipped}", style="yellow", highlight=False)
    for name, figures in report.must_show.items():
        console.print(f"  {name}: {figures}", highlight=False, markup=False)
    for name, value in report.summary.items():
        console.print(f"  {name} {value:g}", highlight=False)


def _write(report: FaultReport, json_file: Path | None, markdown: Path | None) -> None:
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    if markdown is not None:
        from ops.faults.tables import markdown_table

        markdown.write_text(markdown_table(report.rows), encoding="utf-8")
