"""`antiphon bench weights`: what weights in fewer bits cost and save."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli_context import console, console_err
from ops.commands.calibrate import progress_bar
from ops.commands.options import JsonFile, MarkdownFile, Quick
from ops.render import error_line
from shared.bundles import bundle_path

if TYPE_CHECKING:
    from ops.bench.weights.agreement import AgreementResult
    from shared.model.bundle import Bundle

EXIT_WRONG = 1
PRECISIONS = ("float32", "bfloat16", "int8", "int4")
_WIDTHS = (256, 2048)
_ROWS = (1, 2, 4, 8, 16, 64)
_RUNS = 15
_QUICK_RUNS = 2
_QUICK_COUNT = 8


def weights(
    bundle: Annotated[
        list[str] | None,
        typer.Option(help="A packaged bundle's name or a folder; home if left out. Repeatable."),
    ] = None,
    text: Annotated[
        list[Path] | None, typer.Option(help="For bundles that go on with text. Repeatable.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Requests or texts for each bundle.")] = 100,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads.")] = 1,
    quick: Quick = False,
    json_file: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Time and memory of a layer in float32, bfloat16, int8 and int4, and how many tokens change."""
    import torch

    from ops.bench.weights.outcome import broken_promises, report_of
    from ops.bench.weights.speed import measure_speed
    from shared.model.bundle import Bundle

    torch.set_num_threads(threads)
    opened = [Bundle.open(bundle_path(name)) for name in bundle or ["home"]]
    count = min(count, _QUICK_COUNT) if quick else count
    runs = _QUICK_RUNS if quick else _RUNS
    widths = _WIDTHS[:1] if quick else _WIDTHS
    speeds = [each for width in widths for each in measure_speed(width, PRECISIONS, _ROWS, runs)]
    agreements = [each for one in opened for each in _agreements(one, text or [], count)]
    settings = {"bundles": [each.name for each in opened], "count": count, "threads": threads, "runs": runs}
    report = report_of(speeds, agreements, settings)
    report.show(console)
    if json_file is not None:
        report.write_json(json_file)
    if markdown is not None:
        report.write_markdown(markdown)
    broken = broken_promises(speeds, agreements)
    for each in broken:
        console_err.print(error_line(each))
    if broken:
        raise typer.Exit(EXIT_WRONG)


def _agreements(bundle: Bundle, texts: list[Path], count: int) -> list[AgreementResult]:
    from ops.bench.weights.agreement import measure_agreement

    with progress_bar(f"{bundle.name} answers") as progress:
        return measure_agreement(bundle, PRECISIONS, texts, count, progress)
