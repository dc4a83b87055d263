"""`antiphon bench faults`: what fails, what each failure costs, and that no text changes."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli_context import console, console_err
from ops.commands.options import Deadline, Embedded, FaultNames, JsonFile, MarkdownFile
from shared.errors import ConfigError
from shared.log import setup_logging

if TYPE_CHECKING:
    from ops.faults.bench import FaultBench
    from ops.faults.outcome import Outcome
    from ops.faults.report import FaultReport, FaultRow
    from ops.faults.run import Fault
    from ops.faults.series import Series

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
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Keep what the --json file holds, and make what is missing there."),
    ] = False,
    markdown: MarkdownFile = None,
) -> None:
    """Break a small installation of real processes in every known way, and check every answer."""
    from ops.faults.catalog import faults_named
    from ops.faults.promises import promises_broken
    from ops.faults.rig import Plan

    chosen = faults_named(fault or [])
    if list_only:
        for each in chosen:
            console.print(f"{each.target:8} {each.name}", highlight=False)
        return
    setup_logging("error")
    plan = Plan(deadline_s=deadline_s)
    settings = {"runs": _QUICK_RUNS if quick else runs, "seed": seed, **plan.patience}
    series = _series(settings, json_file, embedded=embedded, resume=resume)
    try:
        asyncio.run(_make(series, chosen, embedded=embedded, whole=not fault))
    except BaseException:  # Ctrl-C too
        _tell_how_to_go_on(series, json_file)
        raise
    _show(series.report)
    if markdown is not None:
        _write_tables(series.report, markdown)
    if broken := promises_broken(series.report):
        for words in broken:
            _say(f"broken: {words}", "red")
        raise typer.Exit(EXIT_WRONG)


def _series(settings: dict[str, Any], json_file: Path | None, *, embedded: bool, resume: bool) -> Series:
    """What there is already, and where it is kept."""
    from ops.faults.report import FaultReport
    from ops.faults.report_file import ReportFile
    from ops.faults.series import Series
    from ops.faults.versions import versions
    from ops.provenance import commit, machine

    begun = FaultReport.begun(machine(), commit(), versions(embedded=embedded), settings)
    if json_file is None:
        if resume:
            raise ConfigError("--resume goes on with a report: name its file with --json FILE")
        return Series(begun)
    file = ReportFile(json_file)
    return Series.resumed(begun, file) if resume else Series(begun, file)


async def _make(series: Series, chosen: list[Fault], *, embedded: bool, whole: bool) -> None:
    """Make the faults that are missing, and, with the whole catalog, keep the three promises."""
    from ops.faults.bench import FaultBench
    from ops.faults.must_show import PROMISES

    missing = series.missing(chosen)
    promises = [name for name in PROMISES if whole and name not in series.report.must_show]
    if kept := len(chosen) - len(missing):
        _say(f"{kept} of {len(chosen)} faults are there already")
    if not missing and not promises:
        return
    settings = series.report.settings
    options = {"deadline_s": settings["deadline_s"], "embedded": embedded, "commit": series.report.commit}
    with (
        tempfile.TemporaryDirectory(prefix="faults-") as folder,
        closing(FaultBench(Path(folder), **options)) as bench,
    ):
        for number, fault in enumerate(missing, kept + 1):
            series.add(await _row(bench, fault, f"{number}/{len(chosen)} {fault.name}", settings))
        for name in promises:
            series.promise(name, await _promise(bench, name, settings["runs"]))


async def _row(bench: FaultBench, fault: Fault, title: str, settings: dict[str, Any]) -> FaultRow:
    """One fault; which run it is at is for a terminal, that it is done for everybody."""
    seeds = range(settings["seed"], settings["seed"] + settings["runs"])
    done, start_s = count(1), time.monotonic()
    with console.status(f"{title} …") as status:

        def on_run(outcome: Outcome) -> None:
            _tell(outcome)
            status.update(f"{title}: {next(done)} of {len(seeds)} runs …")

        row = await bench.row(fault, seeds, on_run)
    made = f"{row.runs} run{'s' * (row.runs > 1)}, {time.monotonic() - start_s:.0f} s"
    _say(f"{title}: {f'skipped, {row.skipped}' if row.skipped else made}")
    return row


async def _promise(bench: FaultBench, name: str, runs: int) -> dict[str, Any]:
    from ops.faults.must_show import PROMISES

    start_s = time.monotonic()
    with console.status(f"promise {name} …"):
        figures = await PROMISES[name](bench, runs)
    _say(f"promise {name}: {time.monotonic() - start_s:.0f} s")
    return figures


def _say(line: str, style: str | None = None) -> None:
    """A whole line, however wide whatever reads it is."""
    console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)


def _tell(outcome: Outcome) -> None:
    """Say at once what went wrong; what went well is in the table."""
    words = [*outcome.mismatches, *outcome.failures, *outcome.overruns]
    if outcome.lost_or_doubled:
        words.append(f"{outcome.lost_or_doubled} tokens lost or doubled")
    for each in words:
        _say(f"{outcome.fault}, seed {outcome.seed}, {outcome.sessions} sessions: {each}", "red")


def _tell_how_to_go_on(series: Series, json_file: Path | None) -> None:
    """Of a bench that ends before its time."""
    if json_file is None:
        words = "Stopped, and nothing is kept; with --json FILE it would be."
    elif series.report.rows:
        held = f"{json_file} holds {len(series.report.rows)} faults"
        words = f"Stopped. {held}; the same command with --resume goes on from there."
    else:
        words = f"Stopped before a fault was done; {json_file} is as it was."
    console_err.print(words, highlight=False, markup=False, soft_wrap=True)


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


def _write_tables(report: FaultReport, markdown: Path) -> None:
    from ops.faults.tables import markdown_table

    markdown.write_text(markdown_table(report.rows), encoding="utf-8")
