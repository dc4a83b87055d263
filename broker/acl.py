"""Access rules in Mosquitto's own format, so that one file means the same to both brokers.

Source: mosquitto.conf(5), ``acl_file``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from broker.topics import check_filter
from shared.errors import ConfigError, TopicError


class Access(Enum):
    """What a rule allows, in Mosquitto's words."""

    READ = "read"
    WRITE = "write"
    READWRITE = "readwrite"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class AclRule:
    """One line of an ACL file.

    Attributes:
        access: what it allows.
        topic_filter: topics it is about; in a pattern ``%u`` is the user name, ``%c`` the client id.
        user: whom it is about; None means everybody for a pattern, and anonymous clients otherwise.
        is_pattern: whether it is a ``pattern`` line.
    """

    access: Access
    topic_filter: str
    user: str | None = None
    is_pattern: bool = False

    def filter_for(self, username: str | None, client_id: str) -> str | None:
        """The filter as it reads for one client; None when the rule is not about that client."""
        if not self.is_pattern:
            return self.topic_filter if self.user == username else None
        return _filled(self.topic_filter, username, client_id)


def pattern(access: Access, topic_filter: str) -> AclRule:
    """A rule about every user, each with its own name in it."""
    return AclRule(access, topic_filter, is_pattern=True)


def render_acl(rules: Iterable[AclRule]) -> str:
    """An ACL file's text: anonymous rules, then each user's, then the patterns."""
    rules = list(rules)
    users = dict.fromkeys(rule.user for rule in rules if rule.user is not None)
    parts = [
        _lines("topic", [rule for rule in rules if rule.user is None and not rule.is_pattern]),
        *(
            f"user {user}\n" + _lines("topic", [rule for rule in rules if rule.user == user])
            for user in users
        ),
        _lines("pattern", [rule for rule in rules if rule.is_pattern]),
    ]
    return "\n".join(part for part in parts if part)


def parse_acl(text: str) -> tuple[AclRule, ...]:
    """The rules of an ACL file.

    Raises:
        ConfigError: a line that is none; its number is named.
    """
    rules: list[AclRule] = []
    user: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip().split(maxsplit=1)
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or words[0] not in ("user", "topic", "pattern"):
            raise ConfigError(f"ACL line {number} must begin with user, topic or pattern and name something")
        if words[0] == "user":
            user = words[1]
        else:
            rules.append(_rule(words[1], user, is_pattern=words[0] == "pattern"))
            _check_filter(rules[-1].topic_filter, number)
    return tuple(rules)


def load_acl(path: str | Path) -> tuple[AclRule, ...]:
    """The rules of an ACL file on disk.

    Raises:
        ConfigError: it can't be read or holds a line that is no rule.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read ACL file {path}: {error}") from None
    try:
        return parse_acl(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _rule(words: str, user: str | None, *, is_pattern: bool) -> AclRule:
    access_word, _, rest = words.partition(" ")
    if access_word in {access.value for access in Access} and rest:
        access, topic_filter = Access(access_word), rest.strip()
    else:
        access, topic_filter = Access.READWRITE, words
    return AclRule(access, topic_filter, None if is_pattern else user, is_pattern)


def _check_filter(topic_filter: str, number: int) -> None:
    try:
        check_filter(topic_filter)
    except TopicError as error:
        raise ConfigError(f"ACL line {number}: {error}") from None


def _filled(topic_filter: str, username: str | None, client_id: str) -> str | None:
    """Put name and id in, unless they would change the filter's meaning (a user called ``+``)."""
    for mark, value in (("%u", username), ("%c", client_id)):
        if mark in topic_filter:
            if not value or any(sign in value for sign in "+#/"):
                return None
            topic_filter = topic_filter.replace(mark, value)
    return topic_filter


def _lines(word: str, rules: list[AclRule]) -> str:
    return "".join(f"{word} {rule.access.value} {rule.topic_filter}\n" for rule in rules)
