"""Messages that wait to be carried to the other bus: bounded, the oldest first, none past its time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from math import ceil
from typing import Final

from broker.transport import Incoming

# The states of a large home, all of them retained, arrive at once; or hours of a sensor that speaks every
# ten seconds.
MAX_HELD: Final = 1024
# All of them together.
MAX_HELD_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Dated:
    """A message and the time of `clock` at which nobody wants it any more; None: never."""

    incoming: Incoming
    ends_s: float | None

    def left_s(self, now_s: float) -> int | None:
        """What is left of its time, in whole seconds; 0 or less: nothing."""
        return None if self.ends_s is None else ceil(self.ends_s - now_s)


class Held:
    """A queue in which a retained message takes the place of an earlier one of its topic.

    So a sensor that speaks often does not push out the one state of a lamp that changed long ago.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.bytes = 0
        self._clock = clock
        # Retained messages by topic, others by number; in the order in which they came.
        self._messages: dict[str | int, Dated] = {}
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._messages)

    def has_state(self, topic: str) -> bool:
        """Whether a retained message of this topic waits."""
        return topic in self._messages

    @property
    def over(self) -> bool:
        """Whether more waits than may."""
        return len(self) > MAX_HELD or self.bytes > MAX_HELD_BYTES

    def put(self, incoming: Incoming) -> None:
        """Add a message at the end."""
        key = incoming.topic if incoming.retain else next(self._numbers)
        self._take(key)
        ends_s = None if incoming.expiry_s is None else self._clock() + incoming.expiry_s
        self._messages[key] = Dated(incoming, ends_s)
        self.bytes += _size_bytes(incoming)

    def pop(self) -> Dated:
        """Take the oldest out."""
        dated = self._take(next(iter(self._messages)))
        if dated is None:
            raise IndexError("nothing is held")
        return dated

    def _take(self, key: str | int) -> Dated | None:
        dated = self._messages.pop(key, None)
        if dated is not None:
            self.bytes -= _size_bytes(dated.incoming)
        return dated


def _size_bytes(incoming: Incoming) -> int:
    named = sum(len(key) + len(value) for key, value in incoming.user_properties)
    return len(incoming.topic) + len(incoming.payload) + named
