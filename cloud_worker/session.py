"""A worker's end of one session: which steps are new, which are repeats, where a gap is. Sans I/O.

Theory. Steps are numbered within an epoch and carry positions, so each arriving step is one of:

    its epoch, number, position                       verdict
    -----------------------------------------------   -------------------------------------------
    epoch below the session's                         Stale: a replaced edge speaks; dropped
    epoch above the session's                         Unknown: this worker missed an open; reopen
    number at or below the last accepted one          Repeat: answered again, if it was answered
    builds on a step that was not accepted            Gap: Resume{frontier, taken}
    from_position above the frontier                  Gap: Resume{frontier, taken}
    wants outside the step's own rows, or unordered   Broken: refused
    beyond the context limit                          TooLong: refused
    otherwise                                         Accept: rows below the frontier are rewritten

`frontier` counts accepted positions, run or still queued. A gap in the steps matters even where the
positions leave none: the missing step may have rewritten rows that are below the frontier.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from cloud_worker.work import Work
from shared.errors import AntiphonError, CodecError, ContextTooLongError, WireError
from shared.tensors.compression import Payload, rows_codec, unpack
from shared.wire.messages import Sampling, Step, Tokens
from shared.wire.topics import SessionAddress

# More than an edge asks at once, in steps of several chunks.
MAX_REPLIES = 16


RowBytes = Callable[[str], int]


def _no_size(codec: str) -> int:
    msg = f"this worker takes no compressed states (codec {codec})"
    raise CodecError(msg)


class Accept(NamedTuple):
    """Queue this."""

    work: Work


class Repeat(NamedTuple):
    """Seen before; `reply` is None while it is still in the queue or wanted nothing."""

    reply: Tokens | None


class Gap(NamedTuple):
    """Rows are missing from `frontier` on; those below it are as of the step `taken`."""

    frontier: int
    taken: int


class Stale(NamedTuple):
    """Of an older epoch; not answered."""


class Unknown(NamedTuple):
    """Of an epoch that was not opened here."""


class Broken(NamedTuple):
    """Not a step that can be run."""

    error: AntiphonError


Verdict = Accept | Repeat | Gap | Stale | Unknown | Broken


@dataclass(slots=True)
class WorkerSession:
    """What a worker knows of a session.

    Attributes:
        touched_s: last sign of life, on the worker's clock.
        seated_s: when it came to this worker.
        row_bytes: of one row in a codec; it bounds a compressed payload.
        replies: the replies to the newest answered steps, by their numbers.
        strikes: how often its rows have broken a forward since they were last answered.
        told_of_cap: whether the edge knows that it sends too much; once an epoch is enough.
    """

    address: SessionAddress
    epoch: int
    codec: str
    sampling: Sampling
    max_positions: int
    touched_s: float
    frontier: int = 0
    last_number: int = 0
    replies: OrderedDict[int, Tokens] = field(default_factory=OrderedDict, repr=False)
    strikes: int = 0
    told_of_cap: bool = False
    row_bytes: RowBytes = field(default=_no_size, repr=False)
    seated_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.seated_s = self.touched_s

    def take_over(self, epoch: int, codec: str, sampling: Sampling, *, frontier: int, now_s: float) -> None:
        """The edge opened the session anew at the worker that already has it."""
        self.epoch, self.codec, self.sampling = epoch, codec, sampling
        self.frontier = frontier
        self.last_number = 0
        self.replies.clear()
        self.told_of_cap = False
        self.touched_s = now_s

    def remember(self, reply: Tokens) -> None:
        """Keep a reply in case it gets lost; the edge has few questions on their way at once."""
        self.replies[reply.number] = reply
        if len(self.replies) > MAX_REPLIES:
            self.replies.popitem(last=False)

    def judge(self, step: Step, now_s: float) -> Verdict:
        """What to do with a step; an accepted one moves the frontier."""
        if step.epoch != self.epoch:
            return Stale() if step.epoch < self.epoch else Unknown()
        self.touched_s = now_s
        if step.number <= self.last_number:
            return Repeat(self.replies.get(step.number))
        if step.after > self.last_number or step.from_position > self.frontier:
            return Gap(self.frontier, self.last_number)
        error = self._fault(step)
        if error is not None:
            return Broken(error)
        try:
            plain = self._plain(step)
        except CodecError as broken:
            return Broken(broken)
        self.last_number = step.number
        self.frontier = step.from_position + step.count
        return Accept(self._work(step, plain.states, now_s))

    def _fault(self, step: Step) -> AntiphonError | None:
        end = step.from_position + step.count
        if end > self.max_positions:
            return ContextTooLongError(
                f"{end} positions; this worker takes {self.max_positions}: shorten the prompt or raise "
                "worker.max_context_tokens"
            )
        if any(not step.from_position <= position < end for position in step.wants):
            return WireError(
                f"a wanted position is outside the step's own, {step.from_position} to {end - 1}"
            )
        if any(first >= second for first, second in pairwise(step.wants)):
            return WireError("wanted positions are not in ascending order")
        return None

    def _plain(self, step: Step) -> Payload:
        """The step's rows in the session's codec.

        Raises:
            CodecError: they are in another one, or not what it says.
        """
        name = step.codec or self.codec
        if rows_codec(name) != self.codec:
            msg = f"step {step.number} is in codec {name}; the session was opened with {self.codec}"
            raise CodecError(msg)
        size = 0 if name == self.codec else step.count * self.row_bytes(self.codec)
        return unpack(Payload(name, step.states), size)

    def _work(self, step: Step, states: bytes, now_s: float) -> Work:
        return Work(
            self.address,
            self.epoch,
            step.number,
            step.from_position,
            step.count,
            self.codec,
            states,
            tuple(step.wants),
            tuple(map(tuple, step.allowed)),
            self.sampling,
            now_s,
        )
