"""Topic names and topic filters: what is valid, and what matches what.

Source: MQTT 5 section 4.7 (names and filters) and 4.8.2 (shared subscriptions).
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import TopicError

MAX_TOPIC_BYTES = 65_535
"""What a length-prefixed MQTT string can hold."""

_SHARE_PREFIX = "$share/"


@dataclass(frozen=True, slots=True)
class TopicLimits:
    """How long and how deep a topic may be; deep topics cost tree nodes, so both are bounded."""

    max_bytes: int = 1_024
    max_levels: int = 32


NO_LIMITS = TopicLimits(max_bytes=MAX_TOPIC_BYTES, max_levels=MAX_TOPIC_BYTES)


def check_topic(topic: str, limits: TopicLimits = NO_LIMITS) -> None:
    """Check a topic name.

    Raises:
        TopicError: when it is empty, holds a wildcard or NUL, or is past the limits.

    Source: MQTT 5 [MQTT-4.7.1-1], [MQTT-4.7.3-1], [MQTT-4.7.3-2].
    """
    _check_size(topic, limits)
    if "+" in topic or "#" in topic:
        raise TopicError("a topic name may not hold + or #; publish to one topic")


def check_filter(topic_filter: str, limits: TopicLimits = NO_LIMITS) -> None:
    """Check a topic filter (without a ``$share`` prefix).

    Raises:
        TopicError: when a wildcard shares its level, # is not last, or it is past the limits.

    Source: MQTT 5 [MQTT-4.7.1-1], [MQTT-4.7.1-2].
    """
    _check_size(topic_filter, limits)
    levels = topic_filter.split("/")
    for place, level in enumerate(levels):
        if "#" in level and (level != "#" or place != len(levels) - 1):
            raise TopicError("# must be a level of its own and the last one")
        if "+" in level and level != "+":
            raise TopicError("+ must be a level of its own")


def split_shared(topic_filter: str) -> tuple[str | None, str]:
    """Split ``$share/{group}/{filter}`` into group and filter; the group is None for an ordinary filter.

    Raises:
        TopicError: when the group or the filter behind it is missing, or the group holds a wildcard.

    Source: MQTT 5 [MQTT-4.8.2-1], [MQTT-4.8.2-2].
    """
    if not topic_filter.startswith(_SHARE_PREFIX):
        return None, topic_filter
    group, slash, rest = topic_filter[len(_SHARE_PREFIX) :].partition("/")
    if not group or not slash or not rest or "+" in group or "#" in group:
        raise TopicError("a shared subscription reads $share/{group}/{filter}, its group without + or #")
    return group, rest


def topic_matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter (without ``$share``) matches a topic name.

    Source: MQTT 5 section 4.7.1, and [MQTT-4.7.2-1] for topics that begin with ``$``.
    """
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in {"+", "#"}:
        return False
    return _covers_levels(wanted, levels)


def filter_covers(pattern: str, topic_filter: str) -> bool:
    """Whether every topic that `topic_filter` can match is also matched by `pattern`."""
    pattern_levels = pattern.split("/")
    if topic_filter.startswith("$") and pattern_levels[0] in {"+", "#"}:
        return False
    return _covers_levels(pattern_levels, topic_filter.split("/"))


def filters_overlap(left: str, right: str) -> bool:
    """Whether some topic is matched by both filters."""
    return _overlap_levels(left.split("/"), right.split("/"))


def _covers_levels(pattern: list[str], levels: list[str]) -> bool:
    for place, wanted in enumerate(pattern):
        if wanted == "#":
            return True
        if place == len(levels) or levels[place] == "#":
            return False
        if wanted not in ("+", levels[place]):
            return False
    return len(pattern) == len(levels)


def _overlap_levels(left: list[str], right: list[str]) -> bool:
    if left[:1] == ["#"] or right[:1] == ["#"]:
        return True
    if not left or not right:
        return left == right
    if "+" not in (left[0], right[0]) and left[0] != right[0]:
        return False
    return _overlap_levels(left[1:], right[1:])


def _check_size(topic: str, limits: TopicLimits) -> None:
    if not topic:
        raise TopicError("a topic must have at least one character")
    if "\0" in topic:
        raise TopicError("a topic may not hold the NUL character")
    if len(topic.encode()) > limits.max_bytes:
        raise TopicError(f"a topic may have at most {limits.max_bytes} bytes")
    if topic.count("/") >= limits.max_levels:
        raise TopicError(f"a topic may have at most {limits.max_levels} levels")
