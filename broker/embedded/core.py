"""The broker without its sockets: everything its connections share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from broker.acl import load_acl
from broker.embedded.auth import AclAuthoriser, AllowAll, Authenticator, Authoriser, PasswordAuthenticator
from broker.embedded.counters import Counters
from broker.embedded.registry import SessionRegistry
from broker.embedded.router import Router
from broker.embedded.settings import BrokerSettings
from broker.embedded.timers import Timers
from broker.passwords import load_password_file

if TYPE_CHECKING:
    from broker.embedded.connection import Connection


class BrokerCore:
    """Sessions, subscriptions, timers and rules of one broker.

    Attributes:
        connections: every open socket's connection.
        unflushed: connections that have bytes to write or must close; the server empties it each turn.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        clock: Callable[[], float],
        authenticator: Authenticator | None = None,
        authoriser: Authoriser | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.counters = Counters()
        self.timers = Timers()
        self.router = Router(settings, self.counters)
        self.registry = SessionRegistry(settings, self.router, self.timers, self.counters)
        self.authenticator = authenticator or _authenticator(settings)
        self.authoriser = authoriser or _authoriser(settings)
        self.connections: set[Connection] = set()
        self.unflushed: deque[Connection] = deque()


def _authenticator(settings: BrokerSettings) -> Authenticator:
    if settings.password_file is None:
        return AllowAll()
    return PasswordAuthenticator(load_password_file(settings.password_file))


def _authoriser(settings: BrokerSettings) -> Authoriser:
    return AllowAll() if settings.acl_file is None else AclAuthoriser(load_acl(settings.acl_file))
