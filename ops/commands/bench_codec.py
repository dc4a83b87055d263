"""`antiphon bench codec`: what hidden-state codecs cost in bytes, time and tokens."""

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
    from ops.bench.codec.agreement import AgreementResult, Given
    from ops.bench.codec.speed import SpeedResult
    from shared.model.bundle import Bundle

EXIT_WRONG = 1
_WIDTHS = (256, 2048)
_RUNS = 200
_QUICK_RUNS = 20
_QUICK_COUNT = 12


def codec(
    bundle: Annotated[
        list[str] | None,
        typer.Option(help="A packaged bundle's name or a folder; home if left out. Repeatable."),
    ] = None,
    text: Annotated[
        list[Path] | None, typer.Option(help="For bundles that go on with text. Repeatable.")
    ] = None,
    jsonl_field: Annotated[
        str | None, typer.Option(help="Where JSON lines keep their text, dotted: turns.text. Default: text.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Requests or texts for each bundle.")] = 300,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads.")] = 1,
    quick: Quick = False,
    json_file: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Bytes, microseconds and error of every codec, and how many of the cloud's tokens it changes."""
    import torch

    from ops.bench.codec.agreement import Given
    from ops.bench.codec.outcome import broken_promises, report_of
    from shared.model.bundle import Bundle

    torch.set_num_threads(threads)
    opened = [Bundle.open(bundle_path(name)) for name in bundle or ["home"]]
    given = Given(text or [], jsonl_field, min(count, _QUICK_COUNT) if quick else count)
    agreements = _agreements(opened, given)
    speeds = _speeds({*_WIDTHS, *(each.hidden_size for each in opened)}, _QUICK_RUNS if quick else _RUNS)
    settings = {"bundles": [each.name for each in opened], "count": given.count, "threads": threads}
    report = report_of(speeds, agreements, settings)
    report.show(console)
    if json_file is not None:
        report.write_json(json_file)
    if markdown is not None:
        report.write_markdown(markdown)
    broken = broken_promises(agreements)
    for each in broken:
        console_err.print(error_line(each))
    if broken:
        raise typer.Exit(EXIT_WRONG)


def _speeds(widths: set[int], runs: int) -> list[SpeedResult]:
    from ops.bench.codec.speed import measure_speed
    from shared.tensors.codec import CODECS

    names = [*CODECS, *_compressing()]
    return [measure_speed(name, width, runs) for width in sorted(widths) for name in names]


def _compressing() -> tuple[str, ...]:
    """Those codecs that this installation has."""
    from shared.errors import CodecError
    from shared.tensors.compression import COMPRESSED, check_compression

    try:
        for name in COMPRESSED:
            check_compression(name)
    except CodecError as error:
        console_err.print(f"left out: {', '.join(COMPRESSED)}; {error}", highlight=False, markup=False)
        return ()
    return COMPRESSED


def _agreements(bundles: list[Bundle], given: Given) -> list[AgreementResult]:
    from ops.bench.codec.agreement import measure_agreement

    found = []
    for bundle in bundles:
        with progress_bar(f"{bundle.name} answers") as progress:
            found += measure_agreement(bundle, given, progress)
    return found
