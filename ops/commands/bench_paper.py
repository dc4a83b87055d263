"""`antiphon bench paper`: ways to split one model over a link, side by side in one run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from ops.cli_context import console, console_err
from ops.commands.options import Embedded, JsonFile, MarkdownFile, Quick
from shared.log import setup_logging

EXIT_WRONG = 1
# What the tables need; a file that they are sent to has no width of its own.
_WIDTH = 150


def paper(
    quick: Quick = False,
    prompts: Annotated[int, typer.Option(min=1, help="Of each length.")] = 1,
    pairs: Annotated[
        int | None, typer.Option(min=1, help="Answers of CE-CoLLM and ours on each slow link; else 3.")
    ] = None,
    weights: Annotated[
        Literal["float32", "bfloat16", "int8", "int4"],
        typer.Option(help="What the scripted model's weights are kept in, on both sides."),
    ] = "bfloat16",
    seed: Annotated[int, typer.Option(min=0, help="Of prompts and scripts.")] = 0,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Slow links: all lines of the time-lines, not an excerpt.")
    ] = False,
    confirmed: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Share of unsure guesses that are right; else measured."),
    ] = None,
    embedded: Embedded = False,
    cache: Annotated[
        Path | None, typer.Option(help="Keep the scripted model here; default: ~/.cache/antiphon/bench.")
    ] = None,
    json_file: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Cloud-only, self-speculation, naive splits, CE-CoLLM and ours: time, bytes, cloud work, equal texts."""
    from ops.bench.paper.model import cache_folder
    from ops.bench.paper.plan import full_plan, quick_plan
    from ops.bench.paper.run import run_paper

    setup_logging("error")
    make = quick_plan if quick else full_plan
    plan = make(
        prompts=prompts,
        weights=weights,
        seed=seed,
        confirmed=confirmed,
        embedded=embedded,
        cache=cache or cache_folder(),
        **({} if pairs is None else {"pairs": pairs}),
    )
    with console_err.status("") as status:
        outcome = asyncio.run(run_paper(plan, status.update, timeline=timeline))
    outcome.report.show(wide_console())
    if json_file is not None:
        outcome.report.write_json(json_file)
    if markdown is not None:
        outcome.report.write_markdown(markdown)
    if outcome.broken:
        raise typer.Exit(EXIT_WRONG)


def wide_console() -> Console:
    """Where the tables go: a terminal as it is, and a file wide enough."""
    return console if console.is_terminal else Console(width=_WIDTH)
