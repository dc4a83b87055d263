"""Messages of several sessions that travel as one: what was ready together, for one peer.

A part is a message's own payload, bytes unchanged, with the id of its session. The edge whose sessions they
are stands in the topic, where the broker checks it; a session id in here can only name one of that edge's.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shared.wire.ids import ID_PATTERN

MAX_PARTS = 64
# As for prefill: 64 KiB hold up nobody's tokens for long. What is larger travels alone.
MAX_GROUP_BYTES = 64 * 1024
# What stands around the payloads: version byte and array head; array head, session id, head of the bytes.
GROUP_HEAD_BYTES = 1 + 3
PART_HEAD_BYTES = 1 + (2 + 64) + 5


class Part(msgspec.Struct, array_like=True, frozen=True):
    """One session's message in a group.

    Attributes:
        session: whose message.
        payload: as it would travel alone.
    """

    session: Annotated[str, Meta(pattern=ID_PATTERN)]
    payload: Annotated[bytes, Meta(max_length=MAX_GROUP_BYTES)]


Parts = Annotated[list[Part], Meta(min_length=1, max_length=MAX_PARTS)]
