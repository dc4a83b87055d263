"""The prompts in hand: each is worked on once, and its answer is kept for a while to be repeated.

QoS 1 may deliver a prompt twice, and a device that lost its connection asks again with the same id:
both get the same answer, each where it asked for it.

An id alone does not say which prompt it is: a device that counts from 1 begins anew after each start. So a
prompt is its device, its id and a digest of what is asked, and another request under a known id is another
prompt. Both their answers stay, since a late copy of the first one may still come.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import NamedTuple, Self

import msgspec

from edge_agent.request import Request
from shared.errors import BusyError, PromptError
from shared.wire.topics import DeviceAddress

# Enough for every device of a home to ask again after a broker's restart.
MAX_KEPT = 256
# An answer is a few kilobytes, a long one of a text model about one megabyte.
MAX_KEPT_BYTES = 4 * 1024 * 1024
# Longer than any connection is away that a device waits for; what it asks later it means anew.
KEPT_S = 600.0
# A device has one answer topic and perhaps an inbox for each of its programs.
MAX_PLACES = 8
# Nobody meets another request of the same digest by accident, nor makes one.
_DIGEST_BYTES = 16


class PromptKey(NamedTuple):
    """Which prompt it is: its device's name for it, and what is asked."""

    device: DeviceAddress
    id: str
    digest: bytes = b""

    @classmethod
    def of(cls, device: DeviceAddress, request: Request) -> Self:
        """The key of a device's request; whether it also wants the tokens as they come is no part of it."""
        asked = msgspec.json.encode(msgspec.structs.replace(request, stream=False))
        return cls(device, request.id, hashlib.blake2b(asked, digest_size=_DIGEST_BYTES).digest())


class ReplyTo(NamedTuple):
    """Where an answer goes, the asker's own mark on it, and the bus that it was asked on."""

    topic: str
    correlation_data: bytes | None = None
    bus: str = ""


class _Kept(NamedTuple):
    """An answer, and until when it is repeated."""

    answer: bytes
    until_s: float


class PromptLedger:
    """What became of recent prompts. Sans I/O: the time is passed in.

    Prompts in hand are bounded by whoever begins them; answers are forgotten oldest first.

    Args:
        max_kept: answers remembered. max_kept_bytes: all of them together. kept_s: for how long.
    """

    def __init__(
        self, max_kept: int = MAX_KEPT, max_kept_bytes: int = MAX_KEPT_BYTES, kept_s: float = KEPT_S
    ) -> None:
        self._max_kept = max_kept
        self._max_kept_bytes = max_kept_bytes
        self._kept_s = kept_s
        self._kept_bytes = 0
        self._kept: OrderedDict[PromptKey, _Kept] = OrderedDict()  # oldest first
        self._in_hand: dict[PromptKey, dict[ReplyTo, None]] = {}

    @property
    def in_hand(self) -> list[PromptKey]:
        """Prompts that are being worked on, oldest first."""
        return list(self._in_hand)

    def check_name(self, key: PromptKey) -> None:
        """See that no other prompt of this name is in hand: whoever waits could not tell the answers apart.

        Raises:
            PromptError: one is.
        """
        if any(each[:2] == key[:2] and each != key for each in self._in_hand):
            msg = (
                f"another prompt with the id {key.id!r} is being worked on: give each prompt an id of its "
                "own, or wait for that one's answer"
            )
            raise PromptError(msg)

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

    def finish(self, key: PromptKey, answer: bytes, now_s: float, *, keep: bool) -> list[ReplyTo]:
        """Put a prompt out of hand.

        Args:
            key: the prompt.
            answer: its answer.
            now_s: the time.
            keep: repeat the answer from now on; False lets the same prompt be tried again.

        Returns:
            Where the answer is awaited.
        """
        places = self._in_hand.pop(key, {})
        if keep:
            self._keep(key, _Kept(answer, now_s + self._kept_s))
        return list(places)

    def answer(self, key: PromptKey, now_s: float) -> bytes | None:
        """The kept answer, unless it is too old."""
        while self._kept and next(iter(self._kept.values())).until_s <= now_s:
            self._forget_oldest()
        kept = self._kept.get(key)
        return None if kept is None else kept.answer

    def _keep(self, key: PromptKey, kept: _Kept) -> None:
        self._kept[key] = kept
        self._kept_bytes += len(kept.answer)
        while len(self._kept) > self._max_kept or self._kept_bytes > self._max_kept_bytes:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, forgotten = self._kept.popitem(last=False)
        self._kept_bytes -= len(forgotten.answer)
