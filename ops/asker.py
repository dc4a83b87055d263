"""Who answers `antiphon ask`: the edge agent on the broker, or one of our own."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any, Protocol

import msgspec

from broker.connect import transport_for
from edge_agent.home_bus import client_section
from edge_agent.request import Request
from ops.cli_context import console_err
from ops.device_client import DeviceClient, OnEvent
from ops.garbage import kept_for_good
from ops.readiness import Readiness
from shared.config import BrokerSection, Settings
from shared.wire.ids import new_id

# An agent on the broker shows its retained presence at once; without one we answer ourselves.
FIND_EDGE_TIMEOUT_S = 1.5
# A guest edge waits that long for its broker before it goes on alone.
CONNECT_TIMEOUT_S = 1.0


class Asker(Protocol):
    """Answers requests, wherever the edge agent is."""

    async def ask(self, request: Request, on_event: OnEvent | None) -> dict[str, Any]:
        """The answer's or the failure's JSON; `on_event` is called with each token as it comes.

        Raises:
            LinkError: no answer in time.
        """
        ...


class RemoteAsker:
    """Asks the edge agent on the broker.

    Args:
        client: the device that asks.
        timeout_s: for one answer.
    """

    def __init__(self, client: DeviceClient, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s

    async def ask(self, request: Request, on_event: OnEvent | None) -> dict[str, Any]:
        """See `Asker.ask`."""
        if on_event is not None:
            request = msgspec.structs.replace(request, stream=True)
        return await self._client.ask(request, self._timeout_s, on_event)


async def find_asker(stack: AsyncExitStack, settings: Settings, *, local: bool, timeout_s: float) -> Asker:
    """The running agent if there is one, else an edge of our own.

    Args:
        stack: closes what is opened here.
        settings: where the broker is, and what an edge of our own needs.
        local: don't look for an agent.
        timeout_s: for one answer.
    """
    if not local:
        bus = _bus_to_ask_at(settings)
        transport = await stack.enter_async_context(transport_for(bus, new_id("ask-"), None))
        tenant = settings.general.tenant
        if await Readiness(transport, tenant).wait(edges=1, workers=0, timeout_s=FIND_EDGE_TIMEOUT_S):
            # Where the broker has access rules, a device's subtree is named as its user.
            device = bus.username or new_id("cli-")
            return RemoteAsker(DeviceClient(transport, tenant=tenant, device=device), timeout_s)
        why = (
            f"the broker can't be reached: {transport.trouble}" if transport.trouble else "none on the broker"
        )
        home = settings.edge.home or "demo home"
        console_err.print(
            f"no edge agent found ({why}): answering here, home: {home}",
            style="yellow",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    with kept_for_good():
        from ops.local_edge import LocalAsker

    return await stack.enter_async_context(LocalAsker(settings, CONNECT_TIMEOUT_S, timeout_s))


def _bus_to_ask_at(settings: Settings) -> BrokerSection:
    """The home's own bus where there is one: words stay at home. `--host` and `--port` name another."""
    named = any(settings.sources.get(f"broker.{key}") == "command line" for key in ("host", "port"))
    at_home = settings.home_bus.wanted and not (named and settings.broker.host)
    return client_section(settings.home_bus) if at_home else settings.broker
