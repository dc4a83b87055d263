"""Who is there: a retained status per edge and worker, with a will that speaks when they are lost.

A will may arrive late, after its sender is back under another connection. Birth and will of one connection
share a number that only grows, so that whoever listens can tell an old will from a new one.

A worker takes a new id for each start, so offline statuses expire: a crash loop would else fill the broker
with them, and every edge would read them all at each connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.errors import WireError

MAX_STATUS_BYTES = 1_024
"""A status is some sixty bytes; whatever is far longer was not sent by one of us."""


OFFLINE_EXPIRY_S = 3_600
"""Long enough to see what has gone lately. In a day a worker that dies every five seconds would fill the
16,384 topics that the embedded broker retains."""


class Status(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a status topic holds, as JSON so that any MQTT client can show it.

    Attributes:
        online: whether its sender is connected.
        birth: number of the connection it speaks of; a higher one is newer.
        lost: it did not leave by itself: the will speaks.
        bundle: name of the bundle that a worker serves.
        digest: the bundle's digest.
    """

    online: bool
    birth: Annotated[int, Meta(ge=0, le=1 << 53)]
    lost: bool = False
    bundle: Annotated[str, Meta(max_length=64)] = ""
    digest: Annotated[str, Meta(max_length=128)] = ""


_DECODER = msgspec.json.Decoder(Status)


def read_status(payload: bytes) -> Status:
    """A status topic's payload.

    Raises:
        WireError: it is no status.
    """
    if len(payload) > MAX_STATUS_BYTES:
        raise WireError(f"a status has at most {MAX_STATUS_BYTES} bytes, this one has {len(payload)}")
    try:
        return _DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"this is no status: {error}") from None


@dataclass(slots=True)
class Presence:
    """One sender's own status.

    Attributes:
        topic: its retained status topic.
        bundle: what a worker serves. digest: of that bundle.
        wall_clock_s: seconds since the epoch, so that births also grow over restarts.
    """

    topic: str
    bundle: str = ""
    digest: str = ""
    wall_clock_s: Callable[[], float] = time.time
    birth: int = 0

    def next_birth(self) -> None:
        """Count up for a new connection."""
        self.birth = max(self.birth + 1, int(self.wall_clock_s() * 1000))

    def payload(self, *, online: bool, lost: bool = False) -> bytes:
        """The status of the present connection."""
        return msgspec.json.encode(
            Status(online=online, birth=self.birth, lost=lost, bundle=self.bundle, digest=self.digest)
        )


class Roster:
    """Who is online, as heard; old wills change nothing.

    Args:
        max_names: how many are remembered. Past it those heard of longest ago are forgotten, absent ones
            first: a worker takes a new id for each start, and its old ones stay retained at the broker.
    """

    def __init__(self, max_names: int = 4_096) -> None:
        self._max_names = max_names
        # Births by name, the latest heard last.
        self._present: dict[str, int] = {}
        self._absent: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._present) + len(self._absent)

    def hear(self, name: str, status: Status) -> bool:
        """Take a status in; False when it is the will of an older connection than is known.

        Who says that it is there, is: with a lower birth its clock was set back.
        """
        known = self._present.get(name, self._absent.get(name))
        if known is not None and status.birth < known and not status.online:
            return False
        self._present.pop(name, None)
        self._absent.pop(name, None)
        (self._present if status.online else self._absent)[name] = status.birth
        if len(self) > self._max_names:
            forgotten = self._absent or self._present
            del forgotten[next(iter(forgotten))]
        return True

    def online(self, name: str) -> bool:
        """Whether the last word of `name` was that it is there."""
        return name in self._present
