"""`antiphon bench heads`: what an LM head at each exit costs, and that the cheap ways change no text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli_context import console
from ops.commands.options import JsonFile, MarkdownFile, Quick

if TYPE_CHECKING:
    from ops.bench.heads.cost import HeadCost, HeadShape
    from ops.bench.heads.outcome import TextPair
    from ops.bench.heads.texts import Exits
    from ops.quality.question import Question
    from shared.model.bundle import Bundle

EXIT_WRONG = 1
_SEED = 11
_THRESHOLD = 0.8
_QUICK_ROWS = 5
_QUICK_ANSWERS = 3


def heads(
    bundle: Annotated[str, typer.Argument(help="A packaged bundle's name or a folder.")] = "home",
    text: Annotated[
        list[Path] | None,
        typer.Option(help="Text to go on with, for a bundle that is no home's. Repeatable."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Answers to compare.")] = 100,
    new_tokens: Annotated[int, typer.Option(min=1, help="Of each answer without a grammar.")] = 32,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="When an exit is sure; default: the cheapest calibrated level, or 0.8."
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="States that each random head draws from.")] = 50,
    quick: Quick = False,
    json_file: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Heads against layers, and whole answers by whole and by cheap heads: the texts must be equal."""
    import torch

    from ops.bench.heads.outcome import failures, report_of
    from shared.bundles import bundle_path
    from shared.model.bundle import Bundle

    torch.set_num_threads(1)
    opened = Bundle.open(bundle_path(bundle))
    count, rows = (_QUICK_ANSWERS, _QUICK_ROWS) if quick else (count, rows)
    with console.status("random heads …") as status:
        costs = list(_costs(rows, quick=quick))
        status.update("answers …")
        pairs = list(_pairs(opened, text, count, new_tokens, threshold))
    settings = {"bundle": opened.name, "count": count, "new_tokens": new_tokens, "rows": rows, "quick": quick}
    report = report_of(costs, pairs, settings | {"threshold": threshold, "seed": _SEED})
    report.show(console)
    if json_file is not None:
        report.write_json(json_file)
    if markdown is not None:
        report.write_markdown(markdown)
    wrong = failures(costs, pairs)
    for words in wrong:
        console.print(words, style="red", highlight=False, markup=False)
    if wrong:
        raise typer.Exit(EXIT_WRONG)


def _costs(rows: int, *, quick: bool) -> Iterator[HeadCost]:
    from ops.bench.heads.cost import measure_head

    for shape in _shapes(rows, quick=quick):
        yield measure_head(shape, _SEED)


def _shapes(rows: int, *, quick: bool) -> Iterator[HeadShape]:
    """Every size in both dtypes; the largest in bf16 alone, as fp32 takes a gigabyte more."""
    import torch

    from ops.bench.heads.cost import HeadShape

    sizes = [(512, 256), (6144, 256), (32000, 256), (128_000, 256), (512, 2048), (32000, 2048)]
    for vocab, hidden in sizes[:2] if quick else sizes:
        for dtype in (torch.float32, torch.bfloat16):
            yield HeadShape(vocab, hidden, dtype, rows)
    if not quick:
        yield HeadShape(128_000, 2048, torch.bfloat16, rows)


def _pairs(
    bundle: Bundle, text: list[Path] | None, count: int, new_tokens: int, threshold: float | None
) -> Iterator[TextPair]:
    from ops.bench.heads.outcome import TextPair
    from ops.bench.heads.texts import Answerer

    answerer = Answerer(bundle, _exits(bundle, threshold))
    for name, questions in _questions(bundle, text, count, new_tokens):
        yield TextPair(name, answerer.by_whole_heads(questions), answerer.by_choosers(questions))


def _questions(
    bundle: Bundle, text: list[Path] | None, count: int, new_tokens: int
) -> Iterator[tuple[str, list[Question]]]:
    """Requests with and without their grammar, or texts to go on with."""
    from dataclasses import replace

    from edge_agent.constraint import Unconstrained
    from ops.quality import sources
    from ops.quality.question import home_questions, text_questions

    if text:
        found = sources.texts(text, None)[:count]
        yield "text", text_questions(bundle, found, prompt_tokens=32, new_tokens=new_tokens)
        return
    tasks = sources.Tasks(bundle)
    requests = home_questions(bundle, tasks, sources.generated(tasks, count, sources.REPORT_SEED))
    yield "home", requests
    yield (
        "home without grammar",
        [
            replace(each, constraint=Unconstrained, max_new_tokens=min(new_tokens, each.max_new_tokens))
            for each in requests
        ],
    )


def _exits(bundle: Bundle, threshold: float | None) -> Exits:
    """By one threshold, or by the strictest calibrated level at which every exit is ever sure."""
    from ops.bench.heads.texts import Exits

    entries, calibration = bundle.manifest.exits, bundle.manifest.calibration
    levels = (
        [] if calibration is None else [level for level in calibration.levels if max(level.thresholds) < 1]
    )
    thresholds = (_THRESHOLD if threshold is None else threshold,) * len(entries)
    if threshold is None and levels:
        thresholds = levels[-1].thresholds
    temperatures = tuple(entry.temperature for entry in entries)
    return Exits(thresholds, temperatures, tuple(entry.measure for entry in entries))
