"""What one transport wants to receive, what the broker has granted of it, and who takes each message."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from broker.filter_tree import FilterTree
from broker.topics import check_filter, split_shared
from broker.transport import Handler, Incoming

_log = structlog.get_logger(__name__)

REFUSED = 0x80
"""Reason codes from here on refuse. Source: MQTT 5 section 2.4."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    handler: Handler
    qos: int


class Subscriptions:
    """The filters of a transport; they outlive its connections.

    Attributes:
        failed_handlers: exceptions that handlers raised; they were logged and went no further.
        unmatched: messages that no filter (any more) asked for.
        as_published: filters whose messages say whether they were published as retained.
    """

    def __init__(self) -> None:
        self.failed_handlers = 0
        self.unmatched = 0
        self.as_published: set[str] = set()
        self._wanted: dict[str, _Wanted] = {}
        self._granted: dict[str, int] = {}
        self._handlers: FilterTree[Handler] = FilterTree()

    def want(
        self, topic_filter: str, handler: Handler, qos: int, *, retain_as_published: bool = False
    ) -> None:
        """Add a filter, or replace its handler and options.

        Raises:
            TopicError: the filter is not valid.
        """
        _, bare_filter = split_shared(topic_filter)
        check_filter(bare_filter)
        known = self._wanted.get(topic_filter)
        changed = retain_as_published != (topic_filter in self.as_published)
        if known is None or known.qos != qos or changed:
            self._granted.pop(topic_filter, None)
        self._wanted[topic_filter] = _Wanted(handler, qos)
        (self.as_published.add if retain_as_published else self.as_published.discard)(topic_filter)
        self._handlers.put(bare_filter, topic_filter, handler)

    def drop(self, topic_filter: str) -> None:
        """Remove a filter; one that is not there is fine."""
        self.as_published.discard(topic_filter)
        if self._wanted.pop(topic_filter, None) is not None:
            self._handlers.discard(split_shared(topic_filter)[1], topic_filter)

    def to_add(self) -> dict[str, int]:
        """Filters to subscribe to on the present connection, with their QoS."""
        return {each: wanted.qos for each, wanted in self._wanted.items() if each not in self._granted}

    def to_remove(self) -> list[str]:
        """Filters to unsubscribe from on the present connection."""
        return [each for each in self._granted if each not in self._wanted]

    def granted(self, reasons: dict[str, int]) -> None:
        """The broker has answered for these filters."""
        self._granted.update(reasons)
        for topic_filter, reason in reasons.items():
            if reason >= REFUSED:
                _log.warning("subscription_refused", topic_filter=topic_filter, reason=reason)

    def removed(self, topic_filters: list[str]) -> None:
        """The broker has forgotten these filters."""
        for each in topic_filters:
            self._granted.pop(each, None)

    def connection_lost(self) -> None:
        """Nothing is granted any more."""
        self._granted.clear()

    def wanted(self, topic_filter: str) -> bool:
        """Whether a filter is subscribed to at all."""
        return topic_filter in self._wanted

    def answer_for(self, topic_filter: str) -> int | None:
        """The broker's reason code for a filter on the present connection; None while there is none."""
        return self._granted.get(topic_filter)

    def one_granted(self) -> dict[str, int]:
        """A filter that is in force, with its QoS, to ask for again; none, if there is none."""
        for each, wanted in self._wanted.items():
            if self._granted.get(each, REFUSED) < REFUSED:
                return {each: wanted.qos}
        return {}

    def dispatch(self, incoming: Incoming) -> None:
        """Hand a message to the handler of every filter that matches it."""
        handlers = self._handlers.match(incoming.topic)
        if not handlers:
            self.unmatched += 1
        for handler in handlers:
            try:
                handler(incoming)
            except Exception:  # noqa: BLE001  one handler's fault must not stop the others' messages
                self.failed_handlers += 1
                _log.exception("message_handler_failed", topic=incoming.topic)
