"""`antiphon model calibrate`: thresholds that keep a promised agreement with the full model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ops.cli_context import console, console_err
from shared.bundles import bundle_path
from shared.errors import ConfigError
from shared.model.bundle import Bundle
from shared.model.confidence import Measure

if TYPE_CHECKING:
    from ops.quality.forest import Forest
    from ops.quality.outcome import Outcome
    from ops.quality.question import Question

_GENERATED = 5000  # requests
CodecName = Literal["fp32", "fp16", "bf16", "int8", "int4"]


def calibrate(
    bundle: Annotated[str, typer.Argument(help="A packaged bundle's name or a folder; changed in place.")],
    text: Annotated[
        list[Path] | None,
        typer.Option(help="Text like what will be asked; for a home bundle exam files. Repeatable."),
    ] = None,
    jsonl_field: Annotated[
        str | None, typer.Option(help="Where JSON lines keep their text, dotted: turns.text. Default: text.")
    ] = None,
    agreement: Annotated[
        float, typer.Option(help="Share of tokens that are to be the full model's; becomes the default.")
    ] = 0.99,
    confidence: Annotated[float, typer.Option(help="Probability with which each promise holds.")] = 0.95,
    measure: Annotated[Measure, typer.Option(help="What an exit's confidence is.")] = "max_probability",
    codec: Annotated[CodecName, typer.Option(help="How states will travel to the cloud.")] = "fp16",
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Texts to take at most; without --text: requests to generate, 5000."),
    ] = None,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Of each text, read as the prompt.")] = 64,
    new_tokens: Annotated[int, typer.Option(min=1, help="Decoded after each prompt.")] = 64,
    splits: Annotated[
        int, typer.Option(min=0, help="Also calibrate on so many random halves and look at the others.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the splits.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads.")] = 1,
) -> None:
    """Choose each exit's threshold so that answers keep to the full model's, with a guarantee."""
    import torch

    from ops.quality.calibrate import check_enough
    from ops.quality.ladder import Ladder
    from ops.quality.levels import store
    from ops.quality.outcome import calibrate as run
    from ops.quality.outcome import promise_of
    from shared.tensors.codec import codec_named

    torch.set_num_threads(threads)
    promise = promise_of(agreement, confidence, measure)
    opened = Bundle.open(bundle_path(bundle))
    questions = _questions(opened, text, jsonl_field, count, prompt_tokens, new_tokens)
    check_enough(len(questions) // 2 if splits else len(questions), agreement, confidence)
    ladder = Ladder(opened, codec_named(codec))
    with progress_bars() as begin:
        outcome = run(ladder, questions, promise, agreement=agreement, seed=seed, begin=begin)
    store(opened, outcome.calibration, agreement)
    _show(opened, outcome, agreement)
    if splits:
        _show_splits(outcome.forest, agreement, confidence, measure, splits, seed)


@contextmanager
def progress_bars() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Bars on the terminal, one for each title; call what a title gives with done and total."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console_err, transient=True) as bars:

        def begin(title: str) -> Callable[[int, int], None]:
            task = bars.add_task(title, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield begin


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A single one."""
    with progress_bars() as begin:
        yield begin(title)


def _questions(
    bundle: Bundle,
    paths: list[Path] | None,
    field: str | None,
    count: int | None,
    prompt_tokens: int,
    new_tokens: int,
) -> list[Question]:
    from ops.quality import sources
    from ops.quality.question import home_questions, text_questions

    if bundle.kind == "home":
        tasks = sources.Tasks(bundle)
        seed = sources.CALIBRATION_SEED
        requests = (
            sources.exams(tasks, paths)[:count]
            if paths
            else sources.generated(tasks, count or _GENERATED, seed)
        )
        return home_questions(bundle, tasks, requests)
    if not paths:
        msg = (
            f"bundle {bundle.name} goes on with text: name some like what it will be asked, with --text FILE"
        )
        raise ConfigError(msg)
    return text_questions(
        bundle, sources.texts(paths, field)[:count], prompt_tokens=prompt_tokens, new_tokens=new_tokens
    )


def _show(bundle: Bundle, outcome: Outcome, agreement: float) -> None:
    from ops.quality.tables import codec_table, level_table, measure_sentence, measure_table

    console.print(measure_table(outcome.measures, bundle.partition.exits, agreement))
    console.print(measure_sentence(outcome.measures), highlight=False)
    console.print(level_table(outcome.calibration))
    console.print(codec_table(outcome.calibration))
    for left_out, reason in outcome.left_out.items():
        console.print(f"quality {left_out:g} left out: {reason}", style="yellow", highlight=False)
    console.print(
        f"[green]calibrated[/] {escape(str(bundle.path))}: its exits now keep an agreement of {agreement:g} "
        f'unasked; others with antiphon ask --quality, "quality" in a request',
        highlight=False,
    )


def _show_splits(
    forest: Forest, agreement: float, confidence: float, measure: Measure, count: int, seed: int
) -> None:
    from ops.quality.calibrate import Promise
    from ops.quality.splits import try_splits

    with progress_bar("random halves") as progress:
        found = try_splits(forest, Promise((agreement,), confidence, measure), count, seed, progress)
    console.print(
        f"{count} random halves: {found.certified} of them certified {agreement:g}; the other half's "
        f"agreement was below it in {found.below}; promised are at most {found.promised} on average, "
        f"chance explains up to {found.explained}; lowest {min(found.realised, default=1.0):.4f}",
        highlight=False,
    )
