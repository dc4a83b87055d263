"""Who may connect, and what a client may publish and subscribe to.

Both are ports: give the broker your own, or the ones here, which read Mosquitto's files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from broker.acl import Access, AclRule
from broker.passwords import hash_password, verify_password
from broker.topics import filter_covers, filters_overlap, topic_matches

_MAX_CACHED_DECISIONS = 8_192


@dataclass(frozen=True, slots=True)
class Login:
    """What a client shows of itself; the password never appears in a repr."""

    client_id: str
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Client:
    """A client that was let in."""

    client_id: str
    username: str | None


class Authenticator(Protocol):
    """Decides who may connect. Called on the event loop, so it must be quick."""

    def authenticate(self, login: Login) -> bool:
        """Whether these credentials are right."""


class Authoriser(Protocol):
    """Decides per topic. Called on the event loop for every message, so it must be quick."""

    def may_publish(self, client: Client, topic: str) -> bool:
        """Whether the client may publish to this topic."""

    def may_subscribe(self, client: Client, topic_filter: str) -> bool:
        """Whether the client may receive everything this filter (without ``$share``) matches."""


class AllowAll:
    """Lets everybody in and do everything: a broker for one machine."""

    def authenticate(self, login: Login) -> bool:  # noqa: ARG002  the port's signature
        """Yes."""
        return True

    def may_publish(self, client: Client, topic: str) -> bool:  # noqa: ARG002
        """Yes."""
        return True

    def may_subscribe(self, client: Client, topic_filter: str) -> bool:  # noqa: ARG002
        """Yes."""
        return True


class PasswordAuthenticator:
    """Checks names and passwords against hashes as `broker.passwords` writes them."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = dict(hashes)
        # An unknown name takes as long as a wrong password, so that timing names nobody.
        self._nobody = hash_password(b"")

    def authenticate(self, login: Login) -> bool:
        """Whether the user exists and the password is theirs."""
        if login.username is None or login.password is None:
            return False
        known = self._hashes.get(login.username)
        return verify_password(login.password, known or self._nobody) and known is not None


class AclAuthoriser:
    """Applies ACL rules; whatever no rule allows is forbidden, and a deny rule beats the others.

    Mosquitto grants any filter and checks each delivery. Here a filter is refused when the rules do not cover
    all that it matches: the client learns of it, and deliveries cost nothing.
    """

    def __init__(self, rules: Iterable[AclRule]) -> None:
        self._rules = tuple(rules)
        self._filters: dict[tuple[Client, Access], tuple[str, ...]] = {}
        self._decisions: dict[tuple[Client, str], bool] = {}

    def may_publish(self, client: Client, topic: str) -> bool:
        """Whether a write rule, and no deny rule, matches the topic."""
        known = self._decisions.get((client, topic))
        if known is None:
            known = self._may_publish(client, topic)
            if len(self._decisions) >= _MAX_CACHED_DECISIONS:
                self._decisions.clear()
            self._decisions[client, topic] = known
        return known

    def may_subscribe(self, client: Client, topic_filter: str) -> bool:
        """Whether one read rule covers the filter, and no deny rule touches it."""
        if any(filters_overlap(each, topic_filter) for each in self._rules_of(client, Access.DENY)):
            return False
        return any(filter_covers(each, topic_filter) for each in self._rules_of(client, Access.READ))

    def _may_publish(self, client: Client, topic: str) -> bool:
        if any(topic_matches(each, topic) for each in self._rules_of(client, Access.DENY)):
            return False
        return any(topic_matches(each, topic) for each in self._rules_of(client, Access.WRITE))

    def _rules_of(self, client: Client, access: Access) -> tuple[str, ...]:
        known = self._filters.get((client, access))
        if known is None:
            known = tuple(self._filled(client, access))
            if len(self._filters) >= _MAX_CACHED_DECISIONS:
                self._filters.clear()
            self._filters[client, access] = known
        return known

    def _filled(self, client: Client, access: Access) -> Iterable[str]:
        wanted = {access} if access is Access.DENY else {access, Access.READWRITE}
        for rule in self._rules:
            if rule.access in wanted:
                topic_filter = rule.filter_for(client.username, client.client_id)
                if topic_filter is not None:
                    yield topic_filter
