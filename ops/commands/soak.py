"""`antiphon bench soak`: random faults for as long as you like, every answer checked, memory watched."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from ops.cli_context import console
from ops.commands.options import Deadline, Embedded, FaultNames, JsonFile
from ops.soak.trend import LIMIT_MIB_PER_H, WARM_UP_S
from shared.log import setup_logging

if TYPE_CHECKING:
    from ops.faults.run import Fault
    from ops.soak.report import SoakReport
    from ops.soak.soak import SoakSettings
    from ops.soak.tally import Tally

EXIT_FAILED = 1
_S_PER_MINUTE = 60.0


def soak(
    minutes: Annotated[float, typer.Option(min=0.1, help="Of faults; twenty tell of memory.")] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="Of questions, faults and links.")] = 0,
    fault: FaultNames = None,
    deadline_s: Deadline = 3.0,
    embedded: Embedded = False,
    warm_up_s: Annotated[
        float, typer.Option(min=0.0, help="Of each process, before its memory is looked at.")
    ] = WARM_UP_S,
    limit_mib_per_h: Annotated[
        float, typer.Option("--limit-mib-h", min=0.0, help="Growth of a role's memory that fails the soak.")
    ] = LIMIT_MIB_PER_H,
    json_file: JsonFile = None,
) -> None:
    """Let faults strike an installation at random while eight devices ask without a pause."""
    from ops.soak.soak import SoakSettings

    setup_logging("error")
    settings = SoakSettings(
        duration_s=minutes * _S_PER_MINUTE,
        seed=seed,
        faults=tuple(fault or ()),
        warm_up_s=warm_up_s,
        limit_mib_per_h=limit_mib_per_h,
    )
    report = _run(settings, deadline_s, embedded=embedded)
    _show(report)
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    if not report.passed:
        raise typer.Exit(EXIT_FAILED)


def _run(settings: SoakSettings, deadline_s: float, *, embedded: bool) -> SoakReport:
    from ops.faults.bench import FaultBench
    from ops.soak.soak import soak as run_soak

    with tempfile.TemporaryDirectory(prefix="soak-") as folder, console.status("starting …") as status:
        bench = FaultBench(Path(folder), deadline_s=deadline_s, embedded=embedded)

        def on_strike(fault: Fault, tally: Tally) -> None:
            status.update(f"{tally.count['answers']} answers; now: {fault.name}")

        try:
            return asyncio.run(run_soak(bench, settings, on_strike))
        finally:
            bench.close()


def _show(report: SoakReport) -> None:
    from ops.soak.tables import MEMORY_NOTE, fault_table, memory_table

    console.print(fault_table(report))
    console.print(memory_table(report.memory))
    console.print(MEMORY_NOTE, style="dim", highlight=False)
    for name, value in report.summary.items():
        console.print(f"  {name} {value:g}", highlight=False)
    for error in report.errors:
        console.print(f"  {error}", style="yellow", highlight=False, markup=False)
    style = "bold green" if report.passed else "bold red"
    console.print(report.verdict, *report.reasons, sep="\n  ", style=style, highlight=False, markup=False)
