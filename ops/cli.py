"""The command line: `antiphon …`."""

from __future__ import annotations

import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from ops.cli_context import CliOptions, console_err
from ops.commands import (
    ask,
    bench,
    bench_codec,
    bench_heads,
    bench_paper,
    bench_split,
    bench_start,
    bench_transport,
    bench_wan,
    bench_weights,
    bench_worker,
    broker,
    demo,
    edge,
    faults,
    model,
    settings_view,
    soak,
    up,
    worker,
)
from ops.render import error_line
from shared.errors import AntiphonError, ConfigError

# Exit codes: 0 done, 1 failed, 2 called wrongly (as typer does), 130 interrupted (as shells do).
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="antiphon",
    help="One language model across a home and a cloud: the edge answers what it is sure of, "
    "a pool of workers the rest.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(up.up)
app.command()(ask.ask)
app.add_typer(edge.app, name="edge")
app.add_typer(worker.app, name="worker")
app.add_typer(broker.app, name="broker")
app.add_typer(model.app, name="model")
bench.app.command()(faults.faults)
bench.app.command()(soak.soak)
bench.app.command()(bench_codec.codec)
bench.app.command()(bench_heads.heads)
bench.app.command()(bench_split.split)
bench.app.command()(bench_start.start)
bench.app.command()(bench_transport.transport)
bench.app.command()(bench_paper.paper)
bench.app.command()(bench_wan.wan)
bench.app.command()(bench_weights.weights)
bench.app.command()(bench_worker.worker)
app.add_typer(bench.app, name="bench")
app.command()(settings_view.doctor)
app.add_typer(settings_view.app, name="config")
app.command()(demo.demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"antiphon {version('antiphon')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="Settings file (TOML); else antiphon.toml here or in ~/.config.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any setting, e.g. --set edge.codec=int8. Repeatable."
        ),
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that every command understands; `antiphon config show` lists all settings."""
    context.obj = CliOptions(config, tuple(assignments or ()), log_level)


def _interrupted(_number: int, _frame: object) -> None:
    raise SystemExit(EXIT_INTERRUPTED)


def main() -> None:
    """Entry point: errors become one sentence and an exit code, never a traceback."""
    signal.signal(signal.SIGINT, _interrupted)  # click would end with 1, as after a failure
    try:
        app()
    except ConfigError as error:
        console_err.print(error_line(str(error)))
        sys.exit(EXIT_USAGE)
    except AntiphonError as error:
        console_err.print(error_line(str(error)))
        sys.exit(EXIT_FAILED)
    except ModuleNotFoundError as error:
        fix = "install this host's extra, for example pip install 'antiphon[all]'"
        console_err.print(error_line(f"{error.name} is not installed: {fix}"))
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
