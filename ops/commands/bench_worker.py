"""`antiphon bench worker`: sessions that step at once, packed and one by one."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ops.cli_context import console
from ops.commands.options import Embedded, JsonFile, MarkdownFile, Quick
from shared.log import setup_logging

EXIT_FAILED = 1


def worker(
    seconds: Annotated[float, typer.Option(min=0.2, help="Each level is measured for so long.")] = 4.0,
    bundle: Annotated[
        str | None, typer.Option(help="A packaged bundle's name or a folder; else a random one of 100 M.")
    ] = None,
    quick: Quick = False,
    embedded: Embedded = False,
    json_file: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Tokens a second and step times at 1 to 32 sessions; beside a long prompt; memory of a session."""
    from dataclasses import replace

    from ops.bench.cores import Cores
    from ops.bench.random_llama import random_bundle
    from ops.bench.worker.measure import measure
    from ops.bench.worker.outcome import kv_bytes, report_of, texts_differ
    from ops.bench.worker.plan import Plan
    from shared.bundles import bundle_path
    from shared.model.bundle import Bundle

    setup_logging("error")
    plan = Plan.quick() if quick else replace(Plan(), seconds=seconds)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        console.status("preparing the model …") as status,
    ):
        place = Path(folder)
        opened = (
            random_bundle(plan.shape, place / "bundle", name="bench")
            if bundle is None
            else Bundle.open(bundle_path(bundle))
        )
        room = kv_bytes(opened, plan.prompt_tokens)
        run = measure(place, opened, plan, room, status.update, embedded=embedded)
        measured = asyncio.run(run)
    settings = {"bundle": bundle or "random", "quick": quick, "embedded": embedded, "plan": plan}
    report = report_of(measured, settings, Cores.choose().words)
    report.show(console)
    if json_file is not None:
        report.write_json(json_file)
    if markdown is not None:
        report.write_markdown(markdown)
    if texts_differ(measured):
        console.print("Tokens depend on whom a session shares forwards with.", style="bold red")
        raise typer.Exit(EXIT_FAILED)
