"""`antiphon edge serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.cli_context import cli_options
from ops.commands.options import Codec, Mode
from ops.roles import run_role, serve_edge
from shared.errors import ConfigError

app = typer.Typer(help="The home's side.", no_args_is_help=True)


@app.command()
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address of the cloud's broker.")] = None,
    port: Annotated[int | None, typer.Option(help="Its port.")] = None,
    no_cloud: Annotated[
        bool,
        typer.Option(
            "--no-cloud",
            help="There is no cloud: serve the home's own bus alone, with the edge's own answers.",
        ),
    ] = False,
    home: Annotated[Path | None, typer.Option(help="YAML file that describes the home.")] = None,
    bundle: Annotated[str | None, typer.Option(help="A packaged bundle's name or a folder.")] = None,
    mode: Mode = None,
    codec: Codec = None,
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
    if no_cloud and (host or port):
        msg = (
            "--no-cloud goes without --host and --port, which name the cloud's broker: leave one or the other"
        )
        raise ConfigError(msg)
    settings = cli_options(context).settings(
        {
            "broker.host": "" if no_cloud else host,
            "broker.port": port,
            "edge.home": None if home is None else str(home),
            "general.bundle": bundle,
            "edge.mode": mode,
            "edge.codec": codec,
            "edge.id": edge_id,
            "edge.weights": weights,
            "home_bus.embedded": home_bus or None,
            "home_bus.port": home_bus_port,
        }
    )
    run_role(serve_edge, settings)
