"""`antiphon worker serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli_context import cli_options
from ops.roles import run_role, serve_worker

app = typer.Typer(help="The cloud's side.", no_args_is_help=True)


@app.command()
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Broker's address.")] = None,
    port: Annotated[int | None, typer.Option(help="Broker's port.")] = None,
    bundle: Annotated[str | None, typer.Option(help="A packaged bundle's name or a folder.")] = None,
    redis_url: Annotated[
        str | None,
        typer.Option(help="Where sessions' logs are shared; without it they stay in this process."),
    ] = None,
    worker_id: Annotated[str | None, typer.Option("--id", help="The worker's id in topics.")] = None,
    threads: Annotated[int | None, typer.Option(help="Torch threads.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="What weights are kept in: float32, bfloat16, int8 or int4.")
    ] = None,
) -> None:
    """Run a cloud worker: it joins the pool at once and drains on SIGTERM."""
    settings = cli_options(context).settings(
        {
            "broker.host": host,
            "broker.port": port,
            "general.bundle": bundle,
            "worker.redis_url": redis_url,
            "worker.id": worker_id,
            "worker.threads": threads,
            "worker.weights": weights,
        }
    )
    run_role(serve_worker, settings)
