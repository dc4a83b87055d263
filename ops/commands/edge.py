"""`antiphon edge serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.cli_context import cli_options
from ops.roles import run_role, serve_edge

app = typer.Typer(help="The home's side.", no_args_is_help=True)


@app.command()
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Broker's address.")] = None,
    port: Annotated[int | None, typer.Option(help="Broker's port.")] = None,
    home: Annotated[Path | None, typer.Option(help="YAML file that describes the home.")] = None,
    bundle: Annotated[str | None, typer.Option(help="A packaged bundle's name or a folder.")] = None,
    mode: Annotated[str | None, typer.Option(help="collaborative or standalone.")] = None,
    home_bus: Annotated[
        bool,
        typer.Option(
            "--home-bus",
            help="Host the home's own MQTT bus too, for devices that should not need the cloud's.",
        ),
    ] = False,
    home_bus_port: Annotated[int | None, typer.Option(help="The home bus's port.")] = None,
    edge_id: Annotated[str | None, typer.Option("--id", help="The edge's id in topics.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="What weights are kept in: float32, bfloat16, int8 or int4.")
    ] = None,
) -> None:
    """Run an edge agent: serve the home's devices, ask the cloud where unsure."""
    settings = cli_options(context).settings(
        {
            "broker.host": host,
            "broker.port": port,
            "edge.home": None if home is None else str(home),
            "general.bundle": bundle,
            "edge.mode": mode,
            "edge.id": edge_id,
            "edge.weights": weights,
            "home_bus.embedded": home_bus or None,
            "home_bus.port": home_bus_port,
        }
    )
    run_role(serve_edge, settings)
