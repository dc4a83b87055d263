"""`antiphon up`: a whole installation on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from broker.connect import transport_for
from ops.cli_context import cli_options, console, console_err
from ops.listening import check_can_listen
from ops.readiness import Readiness
from ops.roles import stop_event
from ops.stack import Stack
from shared.bundles import bundle_path
from shared.config import BrokerSection, Settings
from shared.errors import ConfigError, LinkError
from shared.log import setup_logging
from shared.model.bundle import Bundle
from shared.wire.ids import new_id

READY_TIMEOUT_S = 60.0


def up(
    context: typer.Context,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Cloud workers, each a process.")] = 2,
    host: Annotated[
        str | None, typer.Option(help="The broker's address; by default this machine's own.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="The broker's port.")] = None,
    external_broker: Annotated[
        bool,
        typer.Option(
            "--external-broker",
            help="Run workers and edge against the broker of the settings, such as a Mosquitto; start none.",
        ),
    ] = False,
    home: Annotated[Path | None, typer.Option(help="YAML file that describes the home.")] = None,
    bundle: Annotated[str | None, typer.Option(help="A packaged bundle's name or a folder.")] = None,
    redis_url: Annotated[str | None, typer.Option(help="Share sessions' logs between workers.")] = None,
) -> None:
    """Run the embedded broker, workers and an edge agent, until Ctrl-C."""
    given = {
        "broker.host": host,
        "broker.port": port,
        "edge.home": None if home is None else str(home),
        "general.bundle": bundle,
        "worker.redis_url": redis_url,
    }
    options = cli_options(context)
    settings = options.settings({"general.log_level": options.log_level or "warning", **given})
    setup_logging(settings.general.log_level)
    if not external_broker:
        check_own_broker(settings.broker)
    asyncio.run(_run(settings, workers, own_broker=not external_broker))


def check_own_broker(broker: BrokerSection) -> None:
    """Make sure that the embedded broker can listen where everybody will look for it.

    Raises:
        ConfigError: the settings speak of another broker, or something else listens there.
    """
    if broker.tls:
        msg = (
            "broker.tls is on, but the broker that `antiphon up` starts has no certificate: use the broker "
            "of the settings with --external-broker, or `antiphon --set broker.tls=false up`"
        )
        raise ConfigError(msg)
    instead = (
        ", or use the broker of the settings with --external-broker (`antiphon edge serve` and "
        "`antiphon worker serve` do so each on its machine)"
    )
    check_can_listen(broker.host, broker.port, instead=instead)


async def _run(settings: Settings, workers: int, *, own_broker: bool) -> None:
    stack = Stack(settings, workers=workers, own_broker=own_broker)
    stopped = asyncio.create_task(stop_event().wait())
    try:
        stack.start_all()
        watch = asyncio.create_task(stack.watch())
        ready = asyncio.create_task(_announce_when_ready(settings, workers, own_broker=own_broker))
        ends = {stopped, watch}
        done, _ = await asyncio.wait({*ends, ready}, return_when=asyncio.FIRST_COMPLETED)
        if done == {ready}:
            ready.result()
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in done & {watch}:
            task.result()
    finally:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        console_err.print("stopping…", style="dim")
        await stack.stop()


async def _announce_when_ready(settings: Settings, workers: int, *, own_broker: bool) -> None:
    await _wait_ready(settings, workers)
    _announce(settings, workers, own_broker=own_broker)


async def _wait_ready(settings: Settings, workers: int) -> None:
    async with transport_for(settings.broker, new_id("up-"), None) as transport:
        readiness = Readiness(transport, settings.general.tenant)
        if await readiness.wait(edges=1, workers=workers, timeout_s=READY_TIMEOUT_S):
            return
        trouble = "" if transport.connected else f": the broker can't be reached ({transport.trouble})"
        msg = f"not ready within {READY_TIMEOUT_S:g} s{trouble}; `antiphon doctor` may tell why"
        raise LinkError(msg)


def _announce(settings: Settings, workers: int, *, own_broker: bool) -> None:
    kind = "embedded, MQTT 5 and 3.1.1" if own_broker else "external"
    table = Table.grid(padding=(0, 2))
    table.add_row("broker", escape(f"{settings.broker.host}:{settings.broker.port} ({kind})"))
    table.add_row("workers", str(workers))
    table.add_row("edge", settings.edge.id)
    bundle = Bundle.open(bundle_path(settings.general.bundle))
    table.add_row("bundle", f"{bundle.name} ({bundle.kind})")
    prompt = "tell me a story"
    if bundle.kind == "home":
        prompt = "turn on the kitchen lights"
        table.add_row("home", escape(settings.edge.home or "demo home"))
    console.print("[bold green]ready[/]")
    console.print(table)
    hint = f'try: antiphon ask "{prompt}"{_where(settings)}   (Ctrl-C stops)'
    console.print(hint, markup=False, highlight=False, soft_wrap=True)


def _where(settings: Settings) -> str:
    """Options by which another command finds this broker: those that this one was given."""
    values = {"host": settings.broker.host, "port": settings.broker.port}
    given = [key for key in values if settings.sources.get(f"broker.{key}", "").startswith("command line")]
    return "".join(f" --{key} {values[key]}" for key in given)
