"""PUBLISH packets at QoS 0 without properties: what every step and reply is, built and read at little cost.

Source: MQTT 5 section 3.3.
"""

from __future__ import annotations

from functools import lru_cache

from broker.embedded.primitives import text, varint
from broker.topics import check_topic
from broker.transport import Incoming

_PUBLISH = b"\x30"
_PUBLISH_RETAINED = 0x31
_NO_PROPERTIES = b"\x00"

_MAX_CACHED_TOPICS = 4_096
"""A session's topics repeat for every token."""


def publish_packet(topic: str, payload: bytes) -> bytes:
    """The packet of one message.

    Raises:
        TopicError: the topic is no topic name.
    """
    head = _head(topic)
    return b"".join((_PUBLISH, varint(len(head) + len(payload)), head, payload))


@lru_cache(_MAX_CACHED_TOPICS)
def _head(topic: str) -> bytes:
    """What stands between the packet's length and its payload."""
    check_topic(topic)
    return text(topic) + _NO_PROPERTIES


def read_publish(first: int, body: bytes) -> Incoming | None:
    """The message in a packet; None when it is of another kind and needs a whole decoder.

    Args:
        first: the packet's first byte, type and flags.
        body: what stands behind its length.
    """
    if first not in (_PUBLISH[0], _PUBLISH_RETAINED) or len(body) < 2:
        return None
    end = 2 + (body[0] << 8 | body[1])
    if end == 2 or body[end : end + 1] != _NO_PROPERTIES:
        return None
    try:
        topic = body[2:end].decode()
    except UnicodeDecodeError:
        return None
    return Incoming(topic, body[end + 1 :], 0, first == _PUBLISH_RETAINED)
