"""`antiphon bench wan`: the rows of `bench paper` from the next room to the other side of the world."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer

from ops.cli_context import console_err
from ops.commands.bench_paper import EXIT_WRONG, wide_console
from ops.commands.options import Embedded, JsonFile, MarkdownFile, Quick
from shared.log import setup_logging


def wan(
    quick: Quick = False,
    prompts: Annotated[int, typer.Option(min=1, help="On each link.")] = 1,
    weights: Annotated[
        Literal["float32", "bfloat16", "int8", "int4"],
        typer.Option(help="What the scripted model's weights are kept in, on both sides."),
    ] = "bfloat16",
    seed: Annotated[int, typer.Option(min=0, help="Of prompts and scripts.")] = 0,
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
    plot: Annotated[Path | None, typer.Option(help="Draw time over round trip: .svg or .png.")] = None,
) -> None:
    """Every row of `bench paper` over round trips of 1 to 200 ms and 5 to 1000 Mbit/s: where they cross."""
    from ops.bench.paper.model import cache_folder
    from ops.bench.paper.plan import full_plan, quick_plan
    from ops.bench.paper.wan import quick_wan_plan, run_wan, wan_plan

    setup_logging("error")
    wishes = {
        "prompts": prompts,
        "weights": weights,
        "seed": seed,
        "confirmed": confirmed,
        "embedded": embedded,
    }
    paper = (quick_plan if quick else full_plan)(cache=cache or cache_folder(), **wishes)
    plan = quick_wan_plan(paper) if quick else wan_plan(paper)
    with console_err.status("") as status:
        outcome = asyncio.run(run_wan(plan, status.update))
    outcome.report.show(wide_console())
    if json_file is not None:
        outcome.report.write_json(json_file)
    if markdown is not None:
        outcome.report.write_markdown(markdown)
    if plot is not None:
        from ops.bench.paper.wan_plot import draw_wan

        title = f"{plan.paper.shape.name}, scripted exits, {plan.paper.new_tokens} tokens an answer"
        draw_wan(plot, title, outcome.curves, outcome.crossings)
    if outcome.broken:
        raise typer.Exit(EXIT_WRONG)
