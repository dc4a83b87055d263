"""What the home bus's settings must agree on, among themselves and with the cloud's broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.errors import ConfigError

if TYPE_CHECKING:
    from shared.config import BrokerSection, HomeBusSection

# Names of this machine and of all its interfaces: a port is one and the same at each of them.
_HERE: Final = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"})  # noqa: S104  compared, not bound


def check_home_bus(bus: HomeBusSection, broker: BrokerSection) -> None:
    """See that a home bus, where there is one, is one of its own and can be logged in to.

    Raises:
        ConfigError: values that don't go together; it names the keys and the fix.
    """
    if not bus.wanted:
        return
    if bus.embedded:
        _check_embedded(bus)
    else:
        _check_elsewhere(bus)
    if bus.port == broker.port and _machine(bus.reached_at) == _machine(broker.host):
        raise ConfigError(
            f"home_bus and broker are both {broker.host}:{broker.port}, but the home's bus is a broker of "
            "its own: name the cloud's with broker.host (`--host`), or set another home_bus.port"
        )


def _check_embedded(bus: HomeBusSection) -> None:
    if bus.host:
        raise ConfigError(
            f"home_bus.host is {bus.host} and home_bus.embedded is on: either the edge hosts the bus, then "
            "remove home_bus.host, or another broker is it, then set home_bus.embedded = false"
        )
    if bus.tls:
        raise ConfigError(
            "home_bus.tls is on, but the bus that the edge hosts speaks none: set home_bus.tls = false, or "
            "run `antiphon broker serve --certfile …` (or a Mosquitto) and name it with home_bus.host"
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
