"""`antiphon bench split`: what it costs that the model is in two places."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ops.cli_context import console
from ops.commands.options import Embedded, JsonFile, MarkdownFile, Quick
from shared.log import setup_logging

if TYPE_CHECKING:
    from ops.bench.cores import Cores
    from ops.bench.split.measure import CaseResult, SplitCase

EXIT_WRONG = 1


def split(
    quick: Quick = False,
    embedded: Embedded = False,
    json_file: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Every token asked of the cloud, against the same model in one process: the texts must be equal."""
    from ops.bench.cores import Cores
    from ops.bench.split.measure import CASES, QUICK_CASES
    from ops.bench.split.outcome import mismatches, report_of

    setup_logging("error")
    cores = Cores.choose()
    cases = QUICK_CASES if quick else CASES
    results = asyncio.run(_measure(cases, cores, embedded=embedded))
    settings = {"quick": quick, "embedded": embedded, "cores": cores.words}
    report = report_of(results, settings)
    report.show(console)
    if json_file is not None:
        report.write_json(json_file)
    if markdown is not None:
        report.write_markdown(markdown)
    for words in mismatches(results):
        console.print(words, style="red", highlight=False, markup=False)
    if mismatches(results):
        raise typer.Exit(EXIT_WRONG)


async def _measure(cases: tuple[SplitCase, ...], cores: Cores, *, embedded: bool) -> list[CaseResult]:
    from ops.bench.split.measure import measure_case

    results = []
    with console.status("preparing the models …") as status:
        for case in cases:
            with tempfile.TemporaryDirectory(prefix="split-") as folder:
                found = await measure_case(
                    case,
                    Path(folder),
                    cores,
                    embedded=embedded,
                    on_round=lambda name, number: status.update(f"{name}, round {number} …"),
                )
            results.append(found)
    return results
