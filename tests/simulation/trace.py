"""What happened in a storm, in its order: the story that a failing seed tells."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, get_args

import structlog

from broker.group_reader import singles
from broker.transport import Incoming
from shared.wire.codec import decode_to_edge, decode_to_worker
from shared.wire.messages import Step, ToEdge, ToWorker
from tests.simulation.virtual_loop import process_of

# Where a message's tag stands: after the version, the array's head and the string's head.
_TAG = 3
_KINDS = {ord(each.__struct_config__.tag): each.__name__ for each in get_args(ToWorker | ToEdge)}
# Errors that the storm itself asked for.
_INTENDED = {"forward_broken", "engine_broken"}


class Trace:
    """Events with their virtual times.

    Attributes:
        counts: how often each kind of event came.
        faults: logged errors; a program that survives a storm has none.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start_s = clock()
        self._events: list[tuple[float, str, str, object]] = []
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []

    def add(self, kind: str, detail: object = "", who: str = "") -> None:
        """Something happened, to `who` or in the process that is running."""
        process = process_of()
        name = who or ("" if process is None else process.name)
        self._events.append((self._clock() - self._start_s, name, kind, detail))
        self.counts[kind] += 1

    def message(self, incoming: Incoming) -> None:
        """A message has arrived in the running process; it is read only if somebody wants the story."""
        for single in singles(incoming):
            kind = "status" if single.retain else _KINDS[single.payload[_TAG]]
            self.add(kind, single)

    def lines(self) -> list[str]:
        """The events for people: seconds since the start, process, kind, detail."""
        return [f"{at_s:10.4f}  {who:<10} {kind:<22} {_told(what)}" for at_s, who, kind, what in self._events]

    def digest(self) -> str:
        """Equal for equal runs."""
        return blake2b("\n".join(self.lines()).encode(), digest_size=16).hexdigest()

    @contextmanager
    def logs(self) -> Iterator[None]:
        """Take in what the program logs meanwhile."""
        before = structlog.get_config()
        structlog.configure(processors=[self._take], wrapper_class=structlog.BoundLogger)
        try:
            yield
        finally:
            structlog.configure(**before)

    def _take(self, _logger: Any, method: str, event: dict[str, Any]) -> Any:
        name = str(event.pop("event"))
        detail = " ".join(f"{key}={value}" for key, value in event.items() if key != "exc_info")
        self.add(name, detail)
        if method in {"error", "exception", "critical"} and name not in _INTENDED:
            self.faults.append(f"{name} {detail} {sys.exc_info()[1]!r}")
        raise structlog.DropEvent


def _told(detail: object) -> str:
    if not isinstance(detail, Incoming):
        return str(detail)
    place = "/".join(detail.topic.split("/")[3:])
    if detail.retain:
        return f"{place} {detail.payload.decode()}"
    decode = decode_to_edge if detail.topic.endswith("/reply") else decode_to_worker
    message = decode(detail.payload)
    if isinstance(message, Step):
        what = (
            f"from={message.from_position} count={message.count} wants={message.wants} after={message.after}"
        )
        return f"{place} Step(epoch={message.epoch} number={message.number} {what})"
    return f"{place} {message}"
