"""What happened when in one answer: where the time went, for a person to read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rich import box
from rich.table import Table

from broker.group_reader import singles
from broker.transport import Handler, Incoming, Transport
from shared.errors import AntiphonError
from shared.wire.codec import decode_to_edge, decode_to_worker
from shared.wire.messages import Step, Tokens


class Event(NamedTuple):
    """One line: when, since the first event, how long, and what."""

    at_ms: float
    took_ms: float | None
    what: str
    detail: str = ""


@dataclass(slots=True)
class Timeline:
    """Collects events of an answer.

    Attributes:
        events: in the order in which they ended.
    """

    events: list[Event] = field(default_factory=list)
    _started_s: float = field(default_factory=time.perf_counter)
    _newest: int = -1
    _asked_s: dict[int, float] = field(default_factory=dict)

    def stage(self, stage: int, position: int, started_s: float, ended_s: float) -> None:
        """A stage has guessed the token at `position`."""
        if position < self._newest or (position == self._newest and stage == 0):
            self._add(started_s, None, "rewind", f"to {position}")
        self._newest = position
        took_ms = (ended_s - started_s) * 1e3
        self._add(started_s, took_ms, f"edge-{stage + 1}", f"token {position}")

    def sent(self, payload: bytes) -> None:
        """Something went up."""
        try:
            step = decode_to_worker(payload)
        except AntiphonError:
            return
        if isinstance(step, Step) and step.wants:
            now_s = time.perf_counter()
            self._asked_s[step.number] = now_s
            wanted = ", ".join(str(position + 1) for position in step.wants)
            self._add(now_s, None, "ask", f"token {wanted}: {step.count} rows, {len(payload)} bytes")

    def heard(self, payload: bytes) -> None:
        """Something came down."""
        try:
            reply = decode_to_edge(payload)
        except AntiphonError:
            return
        if isinstance(reply, Tokens):
            now_s = time.perf_counter()
            took_ms = (now_s - self._asked_s.get(reply.number, now_s)) * 1e3
            said = ", ".join(str(token.position + 1) for token in reply.tokens)
            detail = (
                f"token {said}: {reply.compute_us / 1e3:.1f} ms computed, {reply.queue_us / 1e3:.1f} waited"
            )
            self._add(now_s, took_ms, "reply", detail)

    def rich(self) -> Table:
        """For a terminal."""
        table = Table("at ms", "took ms", "event", "", box=box.SIMPLE_HEAD, pad_edge=False)
        for event in sorted(self.events, key=lambda event: event.at_ms):
            took = "" if event.took_ms is None else f"{event.took_ms:.1f}"
            table.add_row(f"{event.at_ms:.1f}", took, event.what, event.detail)
        return table

    def _add(self, at_s: float, took_ms: float | None, what: str, detail: str) -> None:
        self.events.append(Event((at_s - self._started_s) * 1e3, took_ms, what, detail))

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)


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

    def subscribe(self, topic_filter: str, handler: Handler, *, qos: int = 0) -> None:
        """See `Transport.subscribe`."""

        def watched(incoming: Incoming) -> None:
            if self.timeline is not None:
                for single in singles(incoming):
                    self.timeline.heard(single.payload)
            handler(incoming)

        self._transport.subscribe(topic_filter, watched, qos=qos)

    def publish_soon(self, topic: str, payload: bytes) -> bool:
        """See `Transport.publish_soon`."""
        if self.timeline is not None:
            for single in singles(Incoming(topic, payload)):
                self.timeline.sent(single.payload)
        return self._transport.publish_soon(topic, payload)
