"""`antiphon demo`: the main job on one machine, with faults."""

from __future__ import annotations

import asyncio
import socket
from typing import Annotated

import typer

from ops.cli_context import cli_options, console
from shared.log import setup_logging


def demo(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="Broker's port; 0 takes a free one.")] = 0,
) -> None:
    """Ask a home eight things and more, kill the broker and a worker on the way, and add up."""
    from ops.demo.run import run_demo

    options = cli_options(context)
    # Lost links are the demo's subject: they are shown as answers, not as log lines.
    settings = options.settings({"general.log_level": options.log_level or "error"})
    setup_logging(settings.general.log_level)
    if not asyncio.run(run_demo(settings, port or _free_port(), console)):
        raise typer.Exit(1)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
