"""What the home bus's settings must agree on, among themselves and with the cloud's broker."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from shared.errors import ConfigError

if TYPE_CHECKING:
    from shared.config import BrokerSection, HomeBusSection, Settings

# Names of this machine and of all its interfaces: a port is one and the same at each of them.
_HERE: Final = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"})  # noqa: S104  compared, not bound


def check_home_bus(settings: Settings) -> None:
    """See that there is a broker, and that a home bus is one of its own and can be logged in to.

    Raises:
        ConfigError: values that don't go together; it names the keys and the fix.
    """
    bus, broker = settings.home_bus, settings.broker
    if not broker.host:
        _check_alone(settings)
    if not bus.wanted:
        return
    if bus.embedded:
        _check_embedded(bus)
    else:
        _check_elsewhere(bus)
    _check_apart(bus, broker)


def mode_without_cloud(settings: Settings) -> Settings:
    """The settings, with mode standalone where there is no cloud and nobody has set a mode.

    An answer says that it is degraded where the cloud was wanted; here nobody wants it.
    """
    if settings.broker.host or settings.is_given("edge.mode"):
        return settings
    sources = {**settings.sources, "edge.mode": "broker.host is empty"}
    return replace(settings, edge=replace(settings.edge, mode="standalone"), sources=sources)


def _check_alone(settings: Settings) -> None:
    """What can't be without a cloud."""
    bus = settings.home_bus
    if not bus.wanted:
        raise ConfigError(
            "broker.host is empty, and there is no home bus either: name a broker with broker.host "
            "(`--host`), or give the home one with home_bus.embedded = true or home_bus.host"
        )
    if bus.bridge_out or bus.bridge_in:
        raise ConfigError(
            "home_bus.bridge_out and home_bus.bridge_in carry topics to and from the cloud's broker, but "
            "broker.host is empty: name that broker, or remove the bridge"
        )
    if settings.edge.mode == "exact":
        raise ConfigError(
            "edge.mode is exact, but broker.host is empty, so there is no cloud to confirm a token: name the "
            "cloud's broker, or set edge.mode = standalone"
        )


def _check_apart(bus: HomeBusSection, broker: BrokerSection) -> None:
    if bus.port == broker.port and broker.host and _machine(bus.reached_at) == _machine(broker.host):
        raise ConfigError(
            f"home_bus and broker are both {broker.host}:{broker.port}, but the home's bus is a broker of "
            "its own: name the cloud's with broker.host (`--host`), or set another home_bus.port; a home "
            'without a cloud has broker.host = "" (`edge serve --no-cloud`)'
        )


def _check_embedded(bus: HomeBusSection) -> None:
    if bus.host:
        raise ConfigError(
            f"home_bus.host is {bus.host} and home_bus.embedded is on: either the edge hosts the bus, then "
            "remove home_bus.host, or another broker is it, then set home_bus.embedded = false"
        )
    if bus.tls and not bus.certfile:
        raise ConfigError(
            "home_bus.tls is on, but the bus that the edge hosts has no certificate: name one with "
            "home_bus.certfile, and its key with home_bus.keyfile"
        )
    if bus.ca_file:
        raise ConfigError(
            "home_bus.ca_file is for a bus elsewhere; the edge trusts the certificate of the bus that it "
            "hosts: remove home_bus.ca_file (devices need that file, not the edge)"
        )
    if bus.password_file and not bus.username:
        raise ConfigError(
            "home_bus.password_file is given without home_bus.username: the edge has to log in to its bus "
            "too, so give it a name and password of that file"
        )


def _check_elsewhere(bus: HomeBusSection) -> None:
    for name in ("password_file", "acl_file"):
        if getattr(bus, name):
            raise ConfigError(
                f"home_bus.{name} is for the bus that the edge hosts, but home_bus.host names another: "
                f"configure that broker itself and remove home_bus.{name}"
            )


def _machine(host: str) -> str:
    return "here" if host.lower() in _HERE else host.lower()
