"""`antiphon bench quality`: what answers are worth and what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import typer

from ops.cli_context import console
from ops.commands.calibrate import CodecName, progress_bar
from shared.bundles import bundle_path
from shared.errors import ConfigError
from shared.model.bundle import Bundle

if TYPE_CHECKING:
    from ops.quality.bench import Bench
    from ops.quality.report import Report, Row

app = typer.Typer(help="Measure this installation.", no_args_is_help=True)

_TIMED_HOME = 128
_TIMED_TEXT = 32


class _Asked(NamedTuple):
    """How many requests or texts, how many of people besides, and how many of both are to be refused."""

    requests: int
    natural: int = 0
    refusals: int = 0


@app.callback()
def benches() -> None:
    """Measure this installation."""


@app.command()
def quality(
    bundle: Annotated[str, typer.Argument(help="A packaged bundle's name or a folder.")] = "home",
    text: Annotated[
        list[Path] | None,
        typer.Option(help="Text to go on with; for a home bundle exam files. Repeatable."),
    ] = None,
    jsonl_field: Annotated[
        str | None, typer.Option(help="Where JSON lines keep their text, dotted: turns.text. Default: text.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Requests to generate, or texts to take.")] = 1000,
    natural: Annotated[
        Path | None, typer.Option(help="Requests that people wrote; the project's own if left out.")
    ] = None,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Of each text, read as the prompt.")] = 64,
    new_tokens: Annotated[int, typer.Option(min=1, help="Decoded after each prompt.")] = 64,
    codec: Annotated[CodecName, typer.Option(help="How states travel to the cloud.")] = "fp16",
    timed: Annotated[
        int | None, typer.Option(min=1, help="Answers that are timed; 32, of a home, whose are short, 128.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Of timing; medians are shown.")] = 3,
    seed: Annotated[int | None, typer.Option(min=0, help="Of generated requests.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report here.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the table here, for a page.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw quality against cloud requests: .svg or .png.")
    ] = None,
) -> None:
    """Full model, each exit alone, thresholds and calibrated levels: exact answers and their price."""
    import torch

    from ops.quality.bench import Bench
    from ops.quality.ladder import Ladder
    from ops.quality.sources import REPORT_SEED
    from shared.tensors.codec import codec_named

    torch.set_num_threads(threads)
    opened = Bundle.open(bundle_path(bundle))
    ladder = Ladder(opened, codec_named(codec))
    seed = REPORT_SEED if seed is None else seed
    timed = timed or (_TIMED_HOME if opened.kind == "home" else _TIMED_TEXT)
    with progress_bar("answering under every setting") as progress:
        bench = Bench(ladder, timed, rounds, progress)
        if opened.kind == "home":
            rows, asked = _homes(bench, opened, text, natural, count, seed)
        else:
            rows, asked = _texts(bench, opened, text, jsonl_field, count, prompt_tokens, new_tokens)
    settings = {"count": count, "seed": seed, "codec": codec, "timed": timed, "rounds": rounds}
    report = _report(opened, settings, asked, rows)
    _show(report, calibrated=opened.calibration is not None)
    _write(report, json_file, markdown, plot)


def _write(report: Report, json_file: Path | None, markdown: Path | None, plot: Path | None) -> None:
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    if markdown is not None:
        from ops.quality.tables import markdown_table

        markdown.write_text(markdown_table(report.rows), encoding="utf-8")
    if plot is not None:
        from ops.quality.plot import draw_plot

        draw_plot(plot, f"{report.bundle}, {report.requests} answers", report.rows)


def _homes(
    bench: Bench, bundle: Bundle, paths: list[Path] | None, natural: Path | None, count: int, seed: int
) -> tuple[list[Row], _Asked]:
    from ops.quality import sources
    from ops.quality.marks import is_refused

    tasks = sources.Tasks(bundle)
    held_out = sources.exams(tasks, paths)[:count] if paths else sources.generated(tasks, count, seed)
    written = sources.written(natural or sources.NATURAL)
    asked = _Asked(len(held_out), len(written), sum(map(is_refused, (*held_out, *written))))
    return bench.homes(held_out, written), asked


def _texts(
    bench: Bench,
    bundle: Bundle,
    paths: list[Path] | None,
    field: str | None,
    count: int,
    prompt_tokens: int,
    new_tokens: int,
) -> tuple[list[Row], _Asked]:
    from ops.quality.question import text_questions
    from ops.quality.sources import texts

    if not paths:
        msg = f"bundle {bundle.name} goes on with text: name some with --text FILE"
        raise ConfigError(msg)
    found = texts(paths, field)[:count]
    questions = text_questions(bundle, found, prompt_tokens=prompt_tokens, new_tokens=new_tokens)
    return bench.texts(questions), _Asked(len(questions))


def _report(bundle: Bundle, settings: dict[str, Any], asked: _Asked, rows: list[Row]) -> Report:
    from ops.provenance import commit, machine
    from ops.quality.report import Report, summary

    figures = summary(rows, len(bundle.partition.exits))
    return Report(bundle.name, bundle.digest, machine(), commit(), settings, *asked, rows, figures)


def _show(report: Report, *, calibrated: bool) -> None:
    from ops.quality.tables import report_note, report_table

    title = f"{report.bundle}: {report.requests} answers"
    if report.natural_requests:
        title += f", and {report.natural_requests} to natural requests"
    console.print(report_table(title, report.rows))
    console.print(report_note(report.rows, report.refusals), style="dim", highlight=False)
    if not calibrated:
        console.print(
            "This bundle is not calibrated: antiphon model calibrate adds rows with a promise.",
            style="yellow",
            highlight=False,
        )
    for name, value in report.summary.items():
        console.print(f"  {name} {value:g}", highlight=False)
