"""What happened when in one answer of ours, and which of it was in vain."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from broker.group_reader import singles
from broker.transport import Handler, Incoming, Transport
from shared.errors import AntiphonError
from shared.wire.codec import decode_to_edge, decode_to_worker
from shared.wire.messages import Step, Tokens

ASK: Final = "ask"
REPLY: Final = "reply"
LATE: Final = "late reply"
REWIND: Final = "rewind"


class Event(NamedTuple):
    """One line: when, since the answer began, how long, and what.

    Attributes:
        position: of the token that a forward of the edge is about; None: this is no forward.
    """

    at_ms: float
    took_ms: float | None
    what: str
    detail: str = ""
    position: int | None = None


class Refuted(NamedTuple):
    """A guess in whose place the cloud said another token.

    Attributes:
        position: the token's. asked_ms, at_ms: when it was asked about, and answered.
    """

    position: int
    asked_ms: float
    at_ms: float


@dataclass(slots=True)
class Timeline:
    """Collects events of an answer, which begins now.

    Attributes:
        clock: in seconds.
        events: in the order in which they ended.
        asked: tokens that the cloud was asked for, those included that nobody wanted any more.
        refuted: guesses that were not the cloud's token.
    """

    clock: Callable[[], float] = time.perf_counter
    events: list[Event] = field(default_factory=list)
    asked: int = 0
    refuted: list[Refuted] = field(default_factory=list)
    _started_s: float = field(init=False)
    _guesses: dict[int, int] = field(default_factory=dict)
    _asked_s: dict[tuple[int, int], float] = field(default_factory=dict)  # by step and position

    def __post_init__(self) -> None:
        self._started_s = self.clock()

    def stage(
        self, stage: int, position: int, started_s: float, ended_s: float, token: int | None = None
    ) -> None:
        """A stage has run for the token at `position`, and its exit has guessed one, or none."""
        at_ms = self._at_ms(started_s)
        took_ms = (ended_s - started_s) * 1e3
        event = Event(at_ms, took_ms, f"edge-{stage + 1}", f"token {position}", position)
        self.events.append(event)
        if token is not None and not self.is_thrown_away(event):
            self._guesses[position] = token

    def sent(self, payload: bytes) -> None:
        """Something went up."""
        try:
            step = decode_to_worker(payload)
        except AntiphonError:
            return
        if isinstance(step, Step) and step.wants:
            now_s = self.clock()
            positions = [want + 1 for want in step.wants]
            self.asked += len(positions)
            self._asked_s |= {(step.number, position): now_s for position in positions}
            wanted = ", ".join(map(str, positions))
            self._add(now_s, None, ASK, f"token {wanted}: {step.count} rows, {len(payload)} bytes")

    def heard(self, payload: bytes) -> None:
        """Something came down."""
        try:
            reply = decode_to_edge(payload)
        except AntiphonError:
            return
        if isinstance(reply, Tokens):
            self._replied(reply, self.clock())

    @property
    def forwards(self) -> list[Event]:
        """Those of the edge's stages, as they began."""
        return sorted((event for event in self.events if event.position is not None), key=_when)

    def is_thrown_away(self, forward: Event) -> bool:
        """Whether a forward was behind a guess that was refuted later."""
        position = forward.position
        return position is not None and any(
            forward.at_ms < refuted.at_ms and position > refuted.position for refuted in self.refuted
        )

    def __iter__(self) -> Iterator[Event]:
        return iter(sorted(self.events, key=_when))

    def _replied(self, reply: Tokens, now_s: float) -> None:
        words, since_s = [], now_s
        newest = len(self.refuted)
        for token in reply.tokens:
            position = token.position + 1
            asked_s = self._asked_s.pop((reply.number, position), None)
            if asked_s is None:
                continue  # taken back with what it was drafted behind, or said twice
            since_s = asked_s
            differs = self._guesses.get(position, token.token) != token.token
            words.append(f"{position}{' is another' if differs else ''}")
            if differs:
                self._refute(Refuted(position, self._at_ms(asked_s), self._at_ms(now_s)))
        worker = f"{reply.compute_us / 1e3:.1f} ms computed, {reply.queue_us / 1e3:.1f} waited"
        detail = f"token {', '.join(words)}: {worker}" if words else worker
        self._add(now_s, (now_s - since_s) * 1e3 if words else None, REPLY if words else LATE, detail)
        for refuted in self.refuted[newest:]:
            self._add(now_s, None, REWIND, f"to {refuted.position}")

    def _refute(self, refuted: Refuted) -> None:
        """Nothing behind it is waited for any more."""
        self.refuted.append(refuted)
        self._guesses = {at: token for at, token in self._guesses.items() if at <= refuted.position}
        self._asked_s = {key: at_s for key, at_s in self._asked_s.items() if key[1] <= refuted.position}

    def _at_ms(self, at_s: float) -> float:
        return (at_s - self._started_s) * 1e3

    def _add(self, at_s: float, took_ms: float | None, what: str, detail: str) -> None:
        self.events.append(Event(self._at_ms(at_s), took_ms, what, detail))


def _when(event: Event) -> float:
    return event.at_ms


class WatchedTransport:
    """A transport whose steps and replies a time-line is told of, while there is one.

    Attributes:
        timeline: of now; None: nobody is told.
    """

    def __init__(self, transport: Transport) -> None:
        self.timeline: Timeline | None = None
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def subscribe(self, topic_filter: str, handler: Handler, **options: Any) -> None:
        """See `Transport.subscribe`."""

        def watched(incoming: Incoming) -> None:
            if self.timeline is not None:
                for single in singles(incoming):
                    self.timeline.heard(single.payload)
            handler(incoming)

        self._transport.subscribe(topic_filter, watched, **options)

    def publish_soon(self, topic: str, payload: bytes) -> bool:
        """See `Transport.publish_soon`."""
        if self.timeline is not None:
            for single in singles(Incoming(topic, payload)):
                self.timeline.sent(single.payload)
        return self._transport.publish_soon(topic, payload)
