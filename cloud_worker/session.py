"""A worker's end of one session: which steps are new, which are repeats, where a gap is. Sans I/O.

Theory. Steps are numbered within an epoch and carry positions, so each arriving step is one of:

    its epoch, number, position                       verdict
    -----------------------------------------------   -------------------------------------------
    epoch below the session's                         Stale: a replaced edge speaks; dropped
    epoch above the session's                         Unknown: this worker missed an open; reopen
    number at or below the last accepted one          Repeat: answered again, if it was answered
    from_position above the frontier                  Gap: Resume{frontier}
    wants outside the step's own rows, or unordered   Broken: refused
    beyond the context limit                          TooLong: refused
    otherwise                                         Accept: rows below the frontier are rewritten

`frontier` counts accepted positions, run or still queued.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from cloud_worker.work import Work
from shared.errors import AntiphonError, ContextTooLongError, WireError
from shared.wire.messages import Sampling, Step, Tokens
from shared.wire.topics import SessionAddress


class Accept(NamedTuple):
    """Queue this."""

    work: Work


class Repeat(NamedTuple):
    """Seen before; `reply` is None while it is still in the queue or wanted nothing."""

    reply: Tokens | None


class Gap(NamedTuple):
    """Rows are missing from `frontier` on."""

    frontier: int


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
        last_reply: the reply to the newest answered step.
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
    last_reply: Tokens | None = field(default=None, repr=False)
    strikes: int = 0
    told_of_cap: bool = False

    def take_over(self, epoch: int, codec: str, sampling: Sampling, *, frontier: int, now_s: float) -> None:
        """The edge opened the session anew at the worker that already has it."""
        self.epoch, self.codec, self.sampling = epoch, codec, sampling
        self.frontier = frontier
        self.last_number, self.last_reply = 0, None
        self.told_of_cap = False
        self.touched_s = now_s

    def judge(self, step: Step, now_s: float) -> Verdict:
        """What to do with a step; an accepted one moves the frontier."""
        if step.epoch != self.epoch:
            return Stale() if step.epoch < self.epoch else Unknown()
        self.touched_s = now_s
        if step.number <= self.last_number:
            answered = self.last_reply is not None and self.last_reply.number == step.number
            return Repeat(self.last_reply if answered else None)
        if step.from_position > self.frontier:
            return Gap(self.frontier)
        error = self._fault(step)
        if error is not None:
            return Broken(error)
        self.last_number = step.number
        self.frontier = step.from_position + step.count
        return Accept(self._work(step, now_s))

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

    def _work(self, step: Step, now_s: float) -> Work:
        return Work(
            self.address,
            self.epoch,
            step.number,
            step.from_position,
            step.count,
            self.codec,
            step.states,
            tuple(step.wants),
            tuple(map(tuple, step.allowed)),
            self.sampling,
            now_s,
        )
