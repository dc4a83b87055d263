"""`antiphon model prepare | train | info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ops.cli_context import console, console_err
from ops.commands import calibrate, tune
from shared.bundles import bundle_path
from shared.errors import ConfigError
from shared.model.bundle import Bundle
from shared.model.manifest import CLOUD_FILE, EDGE_FILE

_INTERRUPTED = 130  # as shells say it

app = typer.Typer(help="Bundles: a model, cut for edge and cloud.", no_args_is_help=True)
train_app = typer.Typer(help="Train the project's own models.", no_args_is_help=True)
app.add_typer(train_app, name="train")
app.command("tune-exits")(tune.tune_exits)
app.command()(calibrate.calibrate)


@app.command()
def prepare(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a Hugging Face causal LM.")],
    exits: Annotated[str, typer.Option(help="Layers after which an exit stands, e.g. 8,16.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    split: Annotated[
        int | None, typer.Option(help="Layers the edge holds; the last exit if left out.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The model's name in topics; the folder's if left out.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16, bfloat16, int8; else the checkpoint's.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
) -> None:
    """Cut a checkpoint into a bundle: the edge's layers, the cloud's layers, tokenizer and manifest."""
    from ops.prepare import prepare as prepare_bundle

    layers = _layers(exits)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console_err, transient=True) as bar:
        task = bar.add_task("copying tensors", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        bundle = prepare_bundle(
            checkpoint, layers, split, out, name=name, dtype=dtype, force=force, progress=progress
        )
    console.print(f"[green]prepared[/] {escape(str(out))}", highlight=False)
    _show(bundle)
    if 1.0 in bundle.thresholds:
        console.print(
            "Exits at threshold 1 are not trained: the cloud decides every token, and standalone answers "
            "are poor. Train them with `antiphon model tune-exits`, then run `antiphon model calibrate`.",
            style="yellow",
        )


@app.command()
def info(
    bundle: Annotated[str, typer.Argument(help="A packaged bundle's name or a folder.")] = "home",
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Hash every file against the manifest.")] = False,
) -> None:
    """Show what a bundle holds."""
    opened = Bundle.open(bundle_path(bundle))
    if verify:
        opened.verify()
    if as_json:
        typer.echo(msgspec.json.encode(opened.manifest).decode())
        return
    _show(opened)
    if verify:
        console.print("[green]every file is as it was prepared[/]")


@train_app.command()
def home(
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    run: Annotated[Path, typer.Option(help="Folder of the run: data, checkpoints; goes on from it.")] = Path(
        "runs/home"
    ),
    steps: Annotated[int, typer.Option(min=1, help="Batches; equal steps give equal models.")] = 6_400,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Train that long, whatever the number of batches.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1000, help="Requests to generate.")] = 400_000,
    seed: Annotated[int, typer.Option(min=0, help="Of data, weights and order.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads.")] = 1,
    first_round: Annotated[
        Path | None, typer.Option(help="An earlier run's folder: go on from its weights, with new data.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
) -> None:
    """Train the home model from generated requests, and cut it into a bundle.

    Ctrl-C while it learns keeps the run: the same command goes on.
    """
    from ops.home.bundle import make_bundle
    from ops.home.train import Progress as Report
    from ops.home.train import train

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console_err) as bar:
        task = bar.add_task("making the data", total=1.0)

        def progress(report: Report) -> None:
            losses = " ".join(f"{layer}:{loss:.3f}" for layer, loss in report.losses.items())
            about = f"step {report.step}, {report.tokens_per_s:.0f} tokens/s, loss by exit {losses}"
            bar.update(task, completed=report.share, description=about)

        last = train(
            run,
            seconds=None if minutes is None else minutes * 60,
            steps=steps if minutes is None else None,
            seed=seed,
            threads=threads,
            first_round=first_round,
            samples=samples,
            progress=progress,
        )
    if last.share < 1.0:
        console_err.print(f"stopped; the run is kept in {escape(str(run))}, the same command goes on")
        raise typer.Exit(_INTERRUPTED)
    console.print(f"[green]trained[/] {escape(str(out))}", highlight=False)
    _show(make_bundle(run, out, force=force))
    console.print("Choose its thresholds with `antiphon model calibrate`.", style="yellow")


def _layers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        msg = f"--exits {text}: give layer counts, separated by commas, for example --exits 8,16"
        raise ConfigError(msg) from None


def _show(bundle: Bundle) -> None:
    manifest = bundle.manifest
    plan = bundle.partition
    table = Table.grid(padding=(0, 2))
    table.add_row("name", f"{bundle.name} ({bundle.kind})")
    table.add_row(
        "family", f"{manifest.family}, {plan.layers} layers, hidden {bundle.hidden_size}, {manifest.dtype}"
    )
    table.add_row("edge", f"layers 1–{plan.split}, {_mb(bundle, EDGE_FILE)}")
    for entry in manifest.exits:
        head = entry.head if entry.lm_head == "shared" else f"{entry.head} with its own LM head"
        table.add_row("  exit", f"after layer {entry.layer}, head {head}, threshold {entry.threshold:g}")
    table.add_row("cloud", f"layers {plan.split + 1}–{plan.layers}, {_mb(bundle, CLOUD_FILE)}")
    levels = bundle.calibration.levels if bundle.calibration else ()
    table.add_row("calibrated", ", ".join(f"{level.agreement:g}" for level in levels) or "no")
    table.add_row("positions", str(bundle.max_positions))
    table.add_row("digest", bundle.digest)
    console.print(table)
    if bundle.calibration and levels:
        from ops.quality.tables import level_table

        console.print(level_table(bundle.calibration))


def _mb(bundle: Bundle, file: str) -> str:
    return f"{bundle.manifest.files[file].size_bytes / 1e6:.1f} MB"
