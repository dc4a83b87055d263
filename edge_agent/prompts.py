"""The prompts in hand: each (device, id) is worked on once, and its answer is kept to be repeated.

QoS 1 may deliver a prompt twice, and a device that lost its connection asks again with the same id:
both get the same answer, each where it asked for it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from shared.errors import BusyError
from shared.wire.topics import DeviceAddress

# Enough for every device of a home to ask again after a broker's restart.
MAX_KEPT = 256
# An answer is a few kilobytes, a long one of a text model about one megabyte.
MAX_KEPT_BYTES = 4 * 1024 * 1024
# A device has one answer topic and perhaps an inbox for each of its programs.
MAX_PLACES = 8


class PromptKey(NamedTuple):
    """A device's name for a prompt."""

    device: DeviceAddress
    id: str


class ReplyTo(NamedTuple):
    """Where an answer goes, the asker's own mark on it, and the bus that it was asked on."""

    topic: str
    correlation_data: bytes | None = None
    bus: str = ""


class PromptLedger:
    """What became of recent prompts.

    Prompts in hand are bounded by whoever begins them; answers are forgotten oldest first.

    Args:
        max_kept: answers remembered. max_kept_bytes: all of them together.
    """

    def __init__(self, max_kept: int = MAX_KEPT, max_kept_bytes: int = MAX_KEPT_BYTES) -> None:
        self._max_kept = max_kept
        self._max_kept_bytes = max_kept_bytes
        self._kept_bytes = 0
        self._kept: OrderedDict[PromptKey, bytes] = OrderedDict()
        self._in_hand: dict[PromptKey, dict[ReplyTo, None]] = {}

    @property
    def in_hand(self) -> list[PromptKey]:
        """Prompts that are being worked on, oldest first."""
        return list(self._in_hand)

    def begin(self, key: PromptKey, reply_to: ReplyTo) -> None:
        """Take a new prompt in hand."""
        self._in_hand[key] = {reply_to: None}

    def join(self, key: PromptKey, reply_to: ReplyTo) -> bool:
        """Have the answer of a prompt in hand sent here too; False when it is not in hand.

        Raises:
            BusyError: it is awaited in `MAX_PLACES` places already.
        """
        places = self._in_hand.get(key)
        if places is None:
            return False
        if reply_to not in places and len(places) >= MAX_PLACES:
            msg = f"this prompt's answer is awaited in {MAX_PLACES} places already: ask again in a moment"
            raise BusyError(msg)
        places[reply_to] = None
        return True

    def finish(self, key: PromptKey, answer: bytes, *, keep: bool) -> list[ReplyTo]:
        """Put a prompt out of hand.

        Args:
            key: the prompt.
            answer: its answer.
            keep: repeat the answer from now on; False lets the same id be tried again.

        Returns:
            Where the answer is awaited.
        """
        places = self._in_hand.pop(key, {})
        if keep:
            self._keep(key, answer)
        return list(places)

    def answer(self, key: PromptKey) -> bytes | None:
        """The kept answer."""
        return self._kept.get(key)

    def _keep(self, key: PromptKey, answer: bytes) -> None:
        self._kept[key] = answer
        self._kept_bytes += len(answer)
        while len(self._kept) > self._max_kept or self._kept_bytes > self._max_kept_bytes:
            _, forgotten = self._kept.popitem(last=False)
            self._kept_bytes -= len(forgotten)
