"""The processes of an installation, each as one function: broker, worker, edge.

A role runs until it is asked to stop (SIGTERM, SIGINT) or its parent is gone, and then leaves in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import structlog

from broker.embedded.settings import BrokerSettings
from ops.event_loop import run
from ops.garbage import kept_for_good
from shared.config import Settings
from shared.errors import AntiphonError
from shared.log import context, setup_logging

log = structlog.get_logger(__name__)


def stop_event() -> asyncio.Event:
    """An event that is set when the process should stop: by a signal, or the end of its parent.

    Call it first thing in a running loop, so that a signal during the start is not lost. A child of
    `antiphon up` leaves Ctrl-C, which the terminal sends to the whole group, to its parent.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    parent = multiprocessing.parent_process()
    if parent is None:
        loop.add_signal_handler(signal.SIGINT, stop.set)
        return stop

    def on_parent_gone() -> None:
        loop.remove_reader(parent.sentinel)  # it stays readable
        stop.set()

    loop.add_reader(parent.sentinel, on_parent_gone)
    return stop


async def serve_broker(settings: Settings, stop: asyncio.Event, broker: BrokerSettings | None = None) -> None:
    """The embedded broker.

    Args:
        settings: the broker section is read, unless `broker` is given.
        stop: ends it.
        broker: everything that the broker can be told.
    """
    from broker.embedded import EmbeddedBroker

    async with EmbeddedBroker(broker or BrokerSettings(host=settings.broker.host, port=settings.broker.port)):
        await stop.wait()


async def serve_worker(settings: Settings, stop: asyncio.Event) -> None:
    """One cloud worker, until `stop`, or until its engine breaks: then this process should be replaced."""
    with kept_for_good():
        from cloud_worker.service import worker_service

    with context(worker=settings.worker.id):
        async with worker_service(settings) as worker:
            await _first_of(stop, worker.broken)
    if worker.broken.is_set():
        sys.exit(EXIT_BROKEN)


async def _first_of(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def serve_edge(settings: Settings, stop: asyncio.Event) -> None:
    """The edge agent with its device topics, until `stop`."""
    with kept_for_good():
        from edge_agent.service import edge_service

    with context(edge=settings.edge.id):
        async with edge_service(settings):
            await stop.wait()


# A child that ends with this was told something it can't follow: starting it again would not help.
EXIT_CANNOT_RUN = 2
# One that ends with this had an engine that ran and then broke: starting it again may help.
EXIT_BROKEN = 3

Role = Callable[[Settings, asyncio.Event], Coroutine[None, None, None]]


def run_role(role: Role, settings: Settings) -> None:
    """Run a role in this process."""
    setup_logging(settings.general.log_level)
    run(_run(role, settings))


async def _run(role: Role, settings: Settings) -> None:
    await role(settings, stop_event())


def run_child(name: str, role: Role, settings: Settings) -> None:
    """Run a role as a child of `antiphon up`; `name` is what `top` shows.

    It stops when its parent tells it to: Ctrl-C, which the terminal sends to the whole group, is ignored.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # Linux alone has it
        Path("/proc/self/comm").write_text(name, encoding="ascii")
    try:
        run_role(role, settings)
    except AntiphonError as error:
        log.error(  # noqa: TRY400  one sentence for people, no traceback
            "cannot_run", role=name, code=error.code, reason=str(error)
        )
        sys.exit(EXIT_CANNOT_RUN)
