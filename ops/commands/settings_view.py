"""`antiphon doctor` and `antiphon config show`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from ops.cli_context import cli_options, console
from shared.config import Settings, describe
from shared.log import setup_logging

app = typer.Typer(help="Settings.", no_args_is_help=True)

_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@app.command()
def show(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Every setting with its value and where it came from."""
    lines = describe(cli_options(context).settings())
    if as_json:
        typer.echo(msgspec.json.encode([line._asdict() for line in lines]).decode())
        return
    table = Table("setting", "value", "source", box=None, header_style="bold")
    for line in lines:
        style = "dim" if line.source == "default" else ""
        table.add_row(line.key, escape(line.value), escape(line.source), style=style)
    console.print(table)


def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check this machine and what it is connected to; says the fix for each problem."""
    from ops.doctor import run_checks

    settings = cli_options(context).settings()
    setup_logging(_quiet_level(settings))
    checks = asyncio.run(run_checks(settings))
    if as_json:
        typer.echo(msgspec.json.encode(checks).decode())
    else:
        for check in checks:
            mark = f"[{_STYLES[check.status]}]{check.status:>4}[/]"
            console.print(f"{mark}  {check.name}: {escape(check.detail)}", highlight=False)
            if check.fix:
                console.print(f"      fix: {escape(check.fix)}", highlight=False)
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)


def _quiet_level(settings: Settings) -> str:
    """The findings say it all; the log speaks up to whoever asked for it."""
    return settings.general.log_level if "general.log_level" in settings.sources else "error"
