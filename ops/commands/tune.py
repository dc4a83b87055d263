"""`antiphon model tune-exits`: better exits for a bundle that exists."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from ops.cli_context import console, console_err
from shared.bundles import bundle_path
from shared.errors import ConfigError
from shared.model.bundle import Bundle

if TYPE_CHECKING:
    from ops.tuning.checkpoint import Progress as State
    from ops.tuning.plan import Plan, TextFile
    from ops.tuning.report import Report
    from ops.tuning.tune import Tuning

_SIGNAL_EXIT = 128  # plus the signal's number, as shells do


def tune_exits(
    bundle: Annotated[str, typer.Argument(help="A packaged bundle's name or a folder.")],
    text: Annotated[
        list[Path],
        typer.Option(help="Text to learn from: .txt or .jsonl, .gz or not, - for stdin. Repeatable."),
    ],
    jsonl_field: Annotated[
        str | None, typer.Option(help="Where JSON lines keep their text, dotted: turns.text. Default: text.")
    ] = None,
    jsonl_prompt: Annotated[
        str | None, typer.Option(help="Where they keep what comes before the text; read, not learned.")
    ] = None,
    head: Annotated[
        Literal["norm", "mlp", "lora"], typer.Option(help="Form of the heads; docs/exits.md compares them.")
    ] = "norm",
    own_lm_head: Annotated[
        bool, typer.Option("--own-lm-head", help="An LM head for each exit, copied from the shared one.")
    ] = False,
    rank: Annotated[int | None, typer.Option(help="Of --head lora; 32 if left out.")] = None,
    loss: Annotated[
        Literal["distill", "next-token"],
        typer.Option(help="Learn from the model's own end, or from the text."),
    ] = "distill",
    exits: Annotated[str | None, typer.Option(help="Exits to tune, e.g. 8,16; all if left out.")] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens to read in all.")] = 2_000_000,
    batch_tokens: Annotated[int, typer.Option(min=2, help="Tokens to read for a step.")] = 4096,
    context: Annotated[
        int | None, typer.Option(help="Tokens read together; 512, or the model's positions, if left out.")
    ] = None,
    held_out_tokens: Annotated[int, typer.Option(min=256, help="Tokens held out for the report.")] = 20_000,
    lr: Annotated[float, typer.Option(min=0.0, help="Peak rate of matrices; 20 times it for norms.")] = 5e-4,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"], typer.Option(help="auto: bf16 where the machine has it.")
    ] = "auto",
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Torch threads.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of new weights and of the order.")] = 0,
    run: Annotated[
        Path | None, typer.Option(help="Folder of the run; goes on from it. runs/exits-NAME if left out.")
    ] = None,
    checkpoint_s: Annotated[float, typer.Option(min=0.0, help="Seconds between checkpoints.")] = 60.0,
    out: Annotated[Path | None, typer.Option(help="Folder of a new bundle; in place if left out.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing --out.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report here too.")] = None,
) -> None:
    """Tune a bundle's exits on text; the model itself stays as it is. A stopped run can go on."""
    from ops.folders import refuse_existing
    from ops.tuning import machine
    from ops.tuning import plan as planning
    from ops.tuning.spool import forget
    from ops.tuning.tune import Output, Tuning

    opened = Bundle.open(bundle_path(bundle))
    if out is not None:
        refuse_existing(out, force=force)
    folder = run or Path("runs") / f"exits-{opened.name}"
    chosen_device = machine.choose_device(device)
    plan = planning.Plan(
        digest=opened.digest,
        exits_sha256=planning.exits_sha256(opened),
        layers=planning.chosen_layers(opened, _layers(exits)),
        head=head,
        lm_head=planning.chosen_matrix(head, own=own_lm_head),
        rank=planning.chosen_rank(head, rank, opened.hidden_size),
        loss=loss,
        text=_text(text, folder, json_lines=bool(jsonl_field or jsonl_prompt), tokens=tokens),
        field=jsonl_field,
        prompt_field=jsonl_prompt,
        tokens=tokens,
        batch_tokens=batch_tokens,
        context=planning.chosen_context(opened, context),
        rate=lr,
        dtype=machine.choose_dtype(dtype, chosen_device),
        device=chosen_device,
        threads=threads,
        seed=seed,
    )
    tuning = Tuning(opened, plan, folder, held_out_tokens=held_out_tokens)
    _learn(tuning, folder, checkpoint_s)
    report = tuning.finish(Output(out, force))
    forget(folder)
    _show(report, out or opened.path, json_file)


def _layers(text: str | None) -> tuple[int, ...] | None:
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError:
        msg = f"--exits {text}: give layer counts, separated by commas, for example --exits 8,16"
        raise ConfigError(msg) from None


def _text(paths: list[Path], folder: Path, *, json_lines: bool, tokens: int) -> tuple[TextFile, ...]:
    from ops.tuning.plan import TextFile
    from ops.tuning.spool import on_disk

    files = on_disk(paths, folder, json_lines=json_lines, tokens=tokens)
    return tuple(TextFile(str(file.resolve()), file.stat().st_size) for file in files)


def _learn(tuning: Tuning, folder: Path, checkpoint_s: float) -> None:
    """Run to the end of the plan, or leave with the signal's exit code."""
    from ops.tuning.signals import stop_on_signals

    columns = (BarColumn(), TextColumn("{task.percentage:>3.0f}%  {task.description}"))
    with Progress(*columns, console=console_err) as bar, stop_on_signals() as stop:
        task = bar.add_task("starting", total=tuning.plan.tokens, completed=tuning.progress.tokens)
        before = tuning.progress

        def report(state: State) -> None:
            bar.update(task, completed=state.tokens, description=_about(before, state, tuning.plan))

        done = tuning.go(checkpoint_s=checkpoint_s, report=report, stop=stop)
    if not done:
        console_err.print(f"stopped; the run is kept in {escape(str(folder))}, the same command goes on")
        raise typer.Exit(_SIGNAL_EXIT + (stop.number or 0))


def _about(before: State, now: State, plan: Plan) -> str:
    """Time left, speed and losses; the speed is that of this session."""
    tokens_per_s = (now.tokens - before.tokens) / max(now.elapsed_s - before.elapsed_s, 1e-9)
    left_s = max(0, plan.tokens - now.tokens) / max(tokens_per_s, 1e-9)
    losses = " ".join(f"{layer}:{loss:.3f}" for layer, loss in now.losses.items())
    return f"{left_s / 60:.1f} min left, {tokens_per_s:.0f} tokens/s, loss by exit {losses}"


def _show(report: Report, bundle: Path, json_file: Path | None) -> None:
    from ops.tuning.report import table

    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    console.print(f"[green]tuned[/] {escape(str(bundle))}", highlight=False)
    console.print(table(report))
    console.print(
        f"Tuned exits have threshold 1: they answer nothing until `antiphon model calibrate "
        f"{escape(os.fspath(bundle))}` has set thresholds.",
        style="yellow",
    )
