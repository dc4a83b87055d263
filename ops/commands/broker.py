"""`antiphon broker serve` and `antiphon broker config mosquitto`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from broker.access import AccessPlan
from broker.embedded.settings import BrokerSettings
from broker.mosquitto import Listener, MosquittoSettings, render_access, render_config
from ops.cli_context import cli_options, console_err
from ops.listening import check_can_listen
from ops.roles import run_role, serve_broker
from shared.wire.ids import check_id

app = typer.Typer(help="The MQTT broker.", no_args_is_help=True)
ACL_FILE = "antiphon.acl"

config_app = typer.Typer(help="Configurations for production brokers.", no_args_is_help=True)
app.add_typer(config_app, name="config")


@app.command()
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    password_file: Annotated[
        str | None, typer.Option(help="Made by mosquitto_passwd; everybody may connect without one.")
    ] = None,
    acl_file: Annotated[str | None, typer.Option(help="Access rules in Mosquitto's format.")] = None,
    certfile: Annotated[str | None, typer.Option(help="Server certificate: turns TLS on.")] = None,
    keyfile: Annotated[str | None, typer.Option(help="Its key.")] = None,
    cafile: Annotated[str | None, typer.Option(help="Authority of client certificates.")] = None,
    client_certificates: Annotated[
        bool, typer.Option("--client-certificates", help="Require them; their common name is the user name.")
    ] = False,
) -> None:
    """Run the embedded broker: for one machine or one home; a large installation runs Mosquitto."""
    settings = cli_options(context).settings({"broker.host": host, "broker.port": port})
    check_can_listen(settings.broker.host, settings.broker.port, instead="")
    broker = BrokerSettings(
        host=settings.broker.host,
        port=settings.broker.port,
        password_file=password_file,
        acl_file=acl_file,
        certfile=certfile,
        keyfile=keyfile,
        cafile=cafile,
        require_certificate=client_certificates,
        use_identity_as_username=client_certificates,
    )
    run_role(partial(serve_broker, broker=broker), settings)


@config_app.command()
def mosquitto(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(help="Folder for mosquitto.conf and antiphon.acl; else stdout.")
    ] = None,
    acl: Annotated[bool, typer.Option("--acl", help="Print the access rules instead.")] = False,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 1883,
    address: Annotated[str | None, typer.Option(help="Address to listen on; else all interfaces.")] = None,
    certfile: Annotated[str | None, typer.Option(help="Server certificate: turns TLS on.")] = None,
    keyfile: Annotated[str | None, typer.Option(help="Its key.")] = None,
    cafile: Annotated[str | None, typer.Option(help="Authority of client certificates.")] = None,
    client_certificates: Annotated[
        bool, typer.Option("--client-certificates", help="Require them; their common name is the user name.")
    ] = False,
    password_file: Annotated[
        str | None,
        typer.Option(help="Made by mosquitto_passwd; else antiphon.passwd there."),
    ] = None,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="No names, no rules: only where nobody else can connect.")
    ] = False,
    edges: Annotated[str | None, typer.Option(help="Edges' user names, separated by commas.")] = None,
    workers: Annotated[str, typer.Option(help="Workers' user names, separated by commas.")] = "",
) -> None:
    """Write a configuration for Mosquitto 2: TCP_NODELAY, limits, TLS and access rules.

    Each edge, worker and device connects under its own id as user name; the rules let it speak for
    itself alone.
    """
    settings = cli_options(context).settings()
    folder = (out or Path("/etc/mosquitto")).resolve()
    by_password = not (anonymous or client_certificates)
    conf = render_config(
        MosquittoSettings(
            listeners=(
                Listener(
                    port=port,
                    address=address,
                    certfile=certfile,
                    keyfile=keyfile,
                    cafile=cafile,
                    require_certificate=client_certificates,
                    use_identity_as_username=client_certificates,
                ),
            ),
            password_file=password_file or (str(folder / "antiphon.passwd") if by_password else None),
            acl_file=None if anonymous else str(folder / ACL_FILE),
            allow_anonymous=anonymous,
        )
    )
    plan = AccessPlan(
        tenant=settings.general.tenant,
        edges=_names(settings.edge.id if edges is None else edges),
        workers=_names(workers),
    )
    if out is None:
        typer.echo(render_access([plan]) if acl else conf, nl=False)
        return
    out.mkdir(parents=True, exist_ok=True)
    (out / "mosquitto.conf").write_text(conf)
    if not anonymous:
        (out / ACL_FILE).write_text(render_access([plan]))
    wrote = f"wrote {out}; start it with: mosquitto -c {out}/mosquitto.conf"
    console_err.print(wrote, markup=False, highlight=False)


def _names(text: str) -> tuple[str, ...]:
    return tuple(check_id(name.strip(), "user name") for name in text.split(",") if name.strip())
