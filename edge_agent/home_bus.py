"""The home's own bus: hosted by the edge where the settings say so, and the edge's connection to it."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import structlog

from broker.connect import transport_for
from broker.embedded import BrokerSettings, EmbeddedBroker, Login, PasswordAuthenticator
from broker.mqtt import MqttTransport
from broker.passwords import load_password_file
from broker.presence import Presence
from shared.config import HomeBusSection, Settings
from shared.errors import ConfigError, LinkError
from shared.wire import topics

log = structlog.get_logger(__name__)

# By then a bus that is there has answered, also one in a slow network.
AWAY_NOTICE_S = 5.0


@asynccontextmanager
async def hosted(bus: HomeBusSection) -> AsyncIterator[None]:
    """The embedded broker in this process, where `bus` asks for it; else nothing.

    Raises:
        ConfigError: it can't listen there, or its files can't be used.
    """
    if not bus.embedded:
        yield
        return
    _check_login(bus)
    if not bus.password_file and not _is_loopback(bus.listen_host):
        log.warning(
            "home_bus_open",
            listen_host=bus.listen_host,
            reason="whoever reaches this address may ask: set home_bus.password_file",
        )
    broker = EmbeddedBroker(_broker_settings(bus))
    try:
        await broker.start()
    except LinkError as error:
        raise ConfigError(f"home bus: {error} with home_bus.port, or another home_bus.listen_host") from None
    try:
        yield
    finally:
        await broker.stop()


def home_transport(settings: Settings) -> MqttTransport:
    """The edge's connection to the home's bus, not started yet; it shows the edge's presence there.

    Raises:
        ConfigError: a TLS file can't be used.
    """
    tenant, edge = settings.general.tenant, settings.edge.id
    presence = Presence(topics.edge_status_topic(tenant, edge))
    # Not the name that the edge has at the cloud's broker: should both addresses lead to one broker after
    # all, two clients of one name would throw each other out for ever.
    return transport_for(client_section(settings.home_bus), f"{tenant}.edge.{edge}.home", presence)


def client_section(bus: HomeBusSection) -> HomeBusSection:
    """The section as a client on this machine needs it: where the bus is, and what to trust.

    It trusts a hosted bus by its certificate, which is at hand.
    """
    if not bus.embedded:
        return bus
    return replace(bus, host=bus.reached_at, ca_file=bus.certfile, certfile="", keyfile="")


async def notice_if_away(transport: MqttTransport, settings: Settings) -> None:
    """Say it once when the bus is not there after the start; the transport goes on trying."""
    bus = settings.home_bus
    served = "devices at the cloud's broker are served" if settings.broker.host else "no device is served"
    if not await transport.wait_connected(AWAY_NOTICE_S):
        log.warning(
            "home_bus_away",
            bus=f"{bus.reached_at}:{bus.port}",
            reason=transport.trouble or "no answer",
            meanwhile=f"{served}; check home_bus.host and home_bus.port",
        )


def _broker_settings(bus: HomeBusSection) -> BrokerSettings:
    return BrokerSettings(
        host=bus.listen_host,
        port=bus.port,
        password_file=bus.password_file or None,
        acl_file=bus.acl_file or None,
        certfile=bus.certfile or None,
        keyfile=bus.keyfile or None,
    )


def _check_login(bus: HomeBusSection) -> None:
    """See that the edge itself will be let in.

    Raises:
        ConfigError: it will not.
    """
    if not bus.password_file:
        return
    authenticator = PasswordAuthenticator(load_password_file(bus.password_file))
    if not authenticator.authenticate(Login("", bus.username, bus.password.encode())):
        raise ConfigError(
            f"home_bus.username {bus.username!r} with its password is not in {bus.password_file}: the edge "
            f"has to log in to its own bus; add it with `mosquitto_passwd {bus.password_file} {bus.username}`"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
