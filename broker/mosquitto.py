"""A Mosquitto 2 configuration from typed settings: the production broker.

Source: mosquitto.conf(5).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from broker.access import AccessPlan
from broker.acl import render_acl
from shared.errors import ConfigError


class Listener(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One address that Mosquitto listens on.

    Attributes:
        port: TCP port.
        address: where; None is every interface.
        certfile: server certificate; with `keyfile` it turns TLS on.
        keyfile: its key.
        cafile: authority that client certificates must be signed by.
        require_certificate: clients must bring a certificate.
        use_identity_as_username: the certificate's common name is the user name, and no password is asked.
        allow_anonymous: with `per_listener`: let clients in without a name.
        password_file: with `per_listener`: this listener's own.
        acl_file: with `per_listener`: this listener's own.
    """

    port: int = 1883
    address: str | None = "127.0.0.1"
    certfile: str | None = None
    keyfile: str | None = None
    cafile: str | None = None
    require_certificate: bool = False
    use_identity_as_username: bool = False
    allow_anonymous: bool = False
    password_file: str | None = None
    acl_file: str | None = None


class MosquittoSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a configuration is made from.

    Attributes:
        listeners: at least one.
        password_file: made by ``mosquitto_passwd`` or `broker.passwords`.
        acl_file: where `render_access` text is put.
        allow_anonymous: let clients in without a name; only for a broker nobody else can reach.
        per_listener: passwords, rules and anonymity belong to each listener instead.
        max_packet_bytes: larger packets are refused.
        max_queued_messages: QoS 1 messages that may wait for one client.
        max_queued_bytes: the same in bytes.
        max_inflight_messages: unacknowledged QoS 1 messages to one client.
        max_keepalive_s: longest keep-alive, so that a dead client is noticed.
        persistent_client_expiration: how long an absent client's session is kept, as Mosquitto writes it.
        persistence_location: folder (ending in /) to keep retained messages and sessions in; None keeps
            them in memory: everything here is announced anew after a restart.
        log_to: a Mosquitto log destination.
    """

    listeners: tuple[Listener, ...] = (Listener(),)
    password_file: str | None = None
    acl_file: str | None = None
    allow_anonymous: bool = False
    per_listener: bool = False
    max_packet_bytes: int = 1_048_576
    max_queued_messages: int = 4_096
    max_queued_bytes: int = 16_777_216
    max_inflight_messages: int = 256
    max_keepalive_s: int = 120
    persistent_client_expiration: str = "1d"
    persistence_location: str | None = None
    log_to: str = "stderr"


def render_config(settings: MosquittoSettings) -> str:
    """The text of ``mosquitto.conf``.

    Raises:
        ConfigError: settings that contradict each other, or a value the format can't hold.
    """
    _check(settings)
    lines: list[str] = ["# Made by `antiphon broker config mosquitto`.", ""]
    lines += _general(settings)
    if not settings.per_listener:
        lines += ["", *_access(settings)]
    for listener in settings.listeners:
        lines += ["", *_listener(listener, per_listener=settings.per_listener)]
    if any("\n" in line for line in lines):
        raise ConfigError("a value holds a newline, which mosquitto.conf can't; look at the paths and names")
    return "\n".join(lines) + "\n"


def render_access(plans: Iterable[AccessPlan]) -> str:
    """The text of the ACL file for any number of tenants; the embedded broker reads it too."""
    return render_acl(rule for plan in plans for rule in plan.rules())


def _general(settings: MosquittoSettings) -> list[str]:
    return [
        f"per_listener_settings {_word(settings.per_listener)}",
        "# Nagle's algorithm would add 40 ms to every acknowledged message.",
        "set_tcp_nodelay true",
        f"max_packet_size {settings.max_packet_bytes}",
        f"max_queued_messages {settings.max_queued_messages}",
        f"max_queued_bytes {settings.max_queued_bytes}",
        f"max_inflight_messages {settings.max_inflight_messages}",
        f"max_keepalive {settings.max_keepalive_s}",
        f"persistent_client_expiration {settings.persistent_client_expiration}",
        f"log_dest {settings.log_to}",
        *_persistence(settings.persistence_location),
    ]


def _persistence(location: str | None) -> list[str]:
    if location is None:
        return ["persistence false"]
    return ["persistence true", f"persistence_location {location}"]


def _access(settings: MosquittoSettings | Listener) -> list[str]:
    lines = [f"allow_anonymous {_word(settings.allow_anonymous)}"]
    lines += _when(settings.password_file, "password_file")
    return lines + _when(settings.acl_file, "acl_file")


def _listener(listener: Listener, *, per_listener: bool) -> list[str]:
    address = f" {listener.address}" if listener.address else ""
    lines = [f"listener {listener.port}{address}"]
    lines += _when(listener.certfile, "certfile")
    lines += _when(listener.keyfile, "keyfile")
    lines += _when(listener.cafile, "cafile")
    if listener.require_certificate:
        lines.append("require_certificate true")
    if listener.use_identity_as_username:
        lines.append("use_identity_as_username true")
    return lines + _access(listener) if per_listener else lines


def _check(settings: MosquittoSettings) -> None:
    if not settings.listeners:
        raise ConfigError("Mosquitto needs at least one listener")
    for listener in settings.listeners:
        _check_listener(listener, per_listener=settings.per_listener)
    open_to_all = (
        not settings.per_listener and not settings.allow_anonymous and settings.password_file is None
    )
    by_certificate = all(each.use_identity_as_username for each in settings.listeners)
    if open_to_all and not by_certificate:
        raise ConfigError(
            "nobody could connect: give a password_file, client certificates or allow_anonymous"
        )


def _check_listener(listener: Listener, *, per_listener: bool) -> None:
    where = f"listener {listener.port}"
    if not 0 < listener.port < 65_536:
        raise ConfigError(f"{where}: a port is 1 to 65535")
    if (listener.certfile is None) != (listener.keyfile is None):
        raise ConfigError(f"{where}: certfile and keyfile go together")
    if listener.require_certificate and (listener.cafile is None or listener.certfile is None):
        raise ConfigError(f"{where}: require_certificate needs cafile, certfile and keyfile")
    if listener.use_identity_as_username and not listener.require_certificate:
        raise ConfigError(f"{where}: use_identity_as_username needs require_certificate")
    own = listener.allow_anonymous or listener.password_file or listener.acl_file
    if own and not per_listener:
        raise ConfigError(f"{where}: its own passwords and rules need per_listener")


def _when(value: str | None, word: str) -> list[str]:
    return [] if value is None else [f"{word} {value}"]


def _word(value: bool) -> str:
    return "true" if value else "false"
