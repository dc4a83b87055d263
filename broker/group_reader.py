"""Receives groups: each message of one is handled as if it had come alone."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from broker.transport import Handler, Incoming
from shared.errors import AntiphonError
from shared.wire.codec import decode_group
from shared.wire.topics import part_topics

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GroupReader:
    """A handler of groups.

    Whose sessions they are is read from the group's topic alone, which is what the broker has checked: in a
    group a peer can name sessions of its own, never another's.

    Attributes:
        handler: gets each message of a group, with the topic on which it would have come alone.
    """

    handler: Handler

    def __call__(self, incoming: Incoming) -> None:
        """Take a group in; a malformed one is logged and dropped, as any message is."""
        try:
            parts = parts_of(incoming)
        except AntiphonError as error:
            _log.warning("group_refused", code=error.code, reason=str(error))
            return
        for part in parts:
            try:
                self.handler(part)
            except Exception:  # noqa: BLE001  one session's message must not stop the others' in its group
                _log.exception("message_handler_failed", topic=part.topic)


def parts_of(group: Incoming) -> list[Incoming]:
    """The messages of a group, each as it would have come alone.

    Raises:
        TopicError: the topic is no group's.
        WireError: the payload is none; nothing of it was taken.
    """
    topic_of = part_topics(group.topic)
    return [Incoming(topic_of(part.session), part.payload) for part in decode_group(group.payload)]


def singles(incoming: Incoming) -> list[Incoming]:
    """For whoever watches all traffic: the messages of a group, or the one message that it is."""
    try:
        return parts_of(incoming)
    except AntiphonError:
        return [incoming]
