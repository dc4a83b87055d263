"""One session's conversation with the cloud. Sans I/O: events in, actions out, time passed in.

Theory. The edge leads: it counts the epoch up each time it opens the session, so whichever worker
holds the newest epoch is the session's worker, and every word of an older epoch is dropped. The edge
also owns the truth (`StateLog`): it believes that the worker holds the states below `_sent`, and any
`Opened` or `Resume` corrects that belief, so a lost, doubled or late message costs time, never text.

    phase     event                          next      actions
    -------   ----------------------------   -------   ---------------------------------------
    CLOSED    open, ask                      OPENING   SendOpen(epoch + 1)
    OPENING   Opened                         OPEN      SendStep… for the pending ask, if there is one
    OPENING   deadline, Busy, Refused*       OPENING   SendOpen(epoch + 1) while attempts last
    OPEN      ask                            ASKING    SendStep… from the believed frontier
    ASKING    Tokens of the last step        OPEN      Answered
    ASKING    Resume                         ASKING    SendStep… from the worker's frontier
    ASKING    resend is due                  ASKING    SendStep: the one that wants the token, again
    ASKING    deadline, worker gone, Refused* OPENING  SendOpen(epoch + 1) while attempts last
    ASKING    worker lost, for the 2nd time  REFUSED   Failed
    OPEN      worker gone, Refused*          CLOSED    –
    any       attempts or time used up       CLOSED    Failed, if an ask is pending
    any       link lost                      CLOSED    Failed, if an ask is pending
    any       Refused, not retryable         REFUSED   Failed, if an ask is pending
    ASKING    Busy                           OPENING   – (SendOpen when it is time to try again)
    REFUSED   ask                            REFUSED   Failed
    REFUSED   message                        REFUSED   –
    any       message of another epoch       same      –
                                                       (* retryable)

Three clocks run in an ask. A step or reply that was lost is sent for again after `resend_after_s`, in
the same epoch, so the worker answers from what it has. A worker that stays silent for
`step_deadline_s` is left. And `deadline_s` after the question the edge says its own guess, whatever is
still on its way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from edge_agent.decode import Guess
from edge_agent.reply_time import ReplyTime
from edge_agent.states import StateLog
from shared.wire.messages import (
    MAX_ALLOWED,
    Busy,
    Close,
    Open,
    Opened,
    Refused,
    Resume,
    Sampling,
    Step,
    ToEdge,
    Tokens,
)

# A chunk of prefill holds up everybody's tokens behind it: 64 KB cost 0.5 ms, 8 MB cost 16–42 ms.
CHUNK_BYTES = 64 * 1024
# A worker that keeps answering Resume to what it asked for, and gets no further, is broken: go elsewhere.
MAX_RESUMES = 4
# A step over which so many workers died may be what kills them: no third one gets it.
MAX_DEATHS = 2
# Steps of at most so many rows take about as long as one of a single row: their times are comparable.
FEW_ROWS = 16
# Rows that may take as long as one step: a deadline grows with the catch-up it waits for.
ROWS_PER_DEADLINE = 256


class Phase(Enum):
    """Where the conversation stands."""

    CLOSED = auto()
    OPENING = auto()
    OPEN = auto()
    ASKING = auto()
    REFUSED = auto()


class SendOpen(NamedTuple):
    """Publish to the pool."""

    message: Open


class SendStep(NamedTuple):
    """Publish to the session's worker."""

    worker: str
    message: Step


class Answered(NamedTuple):
    """The pending ask is answered."""

    guess: Guess
    compute_us: int
    queue_us: int


class Failed(NamedTuple):
    """The pending ask gets no answer; the edge goes on alone."""

    reason: str


Action = SendOpen | SendStep | Answered | Failed


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the edge waits.

    Attributes:
        open_deadline_s: for a worker to take the session.
        step_deadline_s: for the answer to a step of few rows.
        attempts: how often an ask is tried, each time with a newer epoch.
        deadline_s: for the answer to an ask of few rows, over all attempts.
    """

    open_deadline_s: float = 0.5
    step_deadline_s: float = 1.0
    attempts: int = 3
    deadline_s: float = 3.0


@dataclass(slots=True)
class CloudSession:
    """The edge's end of one session.

    Attributes:
        digest: the edge's bundle.
        vocab_size: a token outside it is no token.
        codec: name of the codec that `states` are in.
        states: the session's encoded hidden states.
        reply_time: how long replies take on this link; all its sessions share one.
        phase: see the table above.
        deadline_s: when `on_deadline` is due, on the caller's clock; None while nothing is awaited.
        worker: who serves the session.
        refusal: why the session was refused for good.
        requests: asks made. rows_sent: positions uploaded, repeats counted.
    """

    digest: str
    vocab_size: int
    codec: str
    sampling: Sampling
    states: StateLog
    patience: Patience = field(default_factory=Patience)
    reply_time: ReplyTime = field(default_factory=ReplyTime)
    phase: Phase = Phase.CLOSED
    deadline_s: float | None = None
    worker: str = ""
    refusal: str = ""
    requests: int = 0
    rows_sent: int = 0
    epoch: int = 0
    _number: int = 0
    _first_number: int = 0  # of the newest batch of steps; a word about an older step is out of date
    _sent: int = 0
    _wanted: int | None = None
    _allowed: list[int] = field(default_factory=list)
    _attempts_left: int = 0
    _busy_until_s: float = 0.0  # until then a busy pool costs no attempt
    _resumes: int = 0  # one after another without progress
    _resumed_at: int = -1  # as far as this epoch's worker was
    _deaths: int = 0  # workers lost over the pending ask
    _give_up_s: float = math.inf
    _asked_s: float = 0.0  # when the wanted step went up
    _leave_s: float = 0.0  # when a silent worker is left
    _few_rows: bool = False
    _last_step: SendStep | None = None  # the one that wants the token; None once it was sent again

    def open(self, now_s: float) -> list[Action]:
        """Look for a worker before one is needed."""
        if self.phase is not Phase.CLOSED:
            return []
        self._take_heart(now_s)
        return self._reopen(now_s, "no worker took the session")

    def ask(self, position: int, now_s: float, allowed: Sequence[int] | None = None) -> list[Action]:
        """Ask for the token after `position`, whose states are in the log.

        Args:
            position: of the row whose successor is wanted.
            now_s: the caller's clock.
            allowed: ids it may be; None: any. More than a step can carry are not sent, and the reply may
                then be none of them.
        """
        self.requests += 1
        self._allowed = [] if allowed is None or len(allowed) > MAX_ALLOWED else list(allowed)
        if self.phase is Phase.REFUSED:
            return [Failed(self.refusal)]
        self._wanted = position
        self._take_heart(now_s)
        self._deaths = 0
        self._give_up_s = now_s + self.patience.deadline_s + self._allowance_s(position)
        match self.phase:
            case Phase.OPEN:
                self._attempts_left -= 1
                return self._send_steps(now_s)
            case Phase.CLOSED:
                return self._reopen(now_s, "no worker took the session")
            case _:  # OPENING: sent once a worker is there
                self._wait(self._give_up_s if self.deadline_s is None else self.deadline_s)
                return []

    def on_message(self, message: ToEdge, now_s: float) -> list[Action]:
        """A word from a worker; words of other epochs are dropped."""
        if message.epoch != self.epoch or self.phase is Phase.REFUSED:
            return []
        match message:
            case Opened():
                return self._on_opened(message, now_s)
            case Tokens():
                return self._on_tokens(message, now_s)
            case Resume():
                return self._on_resume(message, now_s)
            case Refused(retryable=False):
                self.phase = Phase.REFUSED
                self.refusal = message.message
                return self._fail(message.message)
            case Refused():
                return self._lost_worker(now_s, message.message)
            case Busy():
                return self._on_busy(message, now_s)

    def on_deadline(self, now_s: float) -> list[Action]:
        """Time is up, if it is: `deadline_s` may have moved since the caller's timer was set."""
        if self.deadline_s is None or now_s < self.deadline_s:
            return []
        if self._wanted is not None and now_s >= self._give_up_s:
            self.phase = Phase.CLOSED
            return self._fail(f"the cloud did not answer within {self.patience.deadline_s:g} s")
        if self.phase is Phase.ASKING and self._last_step is not None and now_s < self._leave_s:
            return self._resend()
        why = "no worker took the session" if self.phase is Phase.OPENING else f"worker {self.worker} is late"
        return self._reopen(now_s, f"{why} in time")

    def on_worker_gone(self, worker: str, now_s: float, *, lost: bool = False) -> list[Action]:
        """The broker says that a worker has left, or died (`lost`)."""
        if worker != self.worker or self.phase not in {Phase.OPEN, Phase.ASKING}:
            return []
        if lost and self.phase is Phase.ASKING:
            self._deaths += 1
            if self._deaths >= MAX_DEATHS:
                self.phase = Phase.REFUSED
                self.refusal = f"{self._deaths} workers died over this session's step: no other one gets it"
                return self._fail(self.refusal)
        return self._lost_worker(now_s, f"worker {worker} is gone")

    def on_link_lost(self, reason: str) -> list[Action]:
        """The broker can't be reached: nothing is awaited any more."""
        if self.phase is Phase.REFUSED:
            return []
        self.phase = Phase.CLOSED
        return self._fail(reason)

    def close(self) -> Close | None:
        """The word to the worker that the session is over, if it has a worker."""
        open_phases = {Phase.OPEN, Phase.ASKING}
        farewell = Close(self.epoch) if self.phase in open_phases else None
        self.phase, self.deadline_s, self._wanted = Phase.CLOSED, None, None
        return farewell

    def _on_opened(self, message: Opened, now_s: float) -> list[Action]:
        if self.phase is not Phase.OPENING:
            return []  # a duplicate
        self.phase = Phase.OPEN
        self.deadline_s = None
        self.worker = message.worker
        self._sent = min(message.frontier, self.states.frontier)
        return [] if self._wanted is None else self._send_steps(now_s)

    def _on_tokens(self, message: Tokens, now_s: float) -> list[Action]:
        if self.phase is not Phase.ASKING or message.number != self._number:
            return []  # a duplicate
        if any(drawn.token >= self.vocab_size for drawn in message.tokens):
            return self._lost_worker(now_s, f"worker {self.worker} sent a token that the model does not have")
        for drawn in message.tokens:
            if drawn.position == self._wanted:
                self._observe(now_s)
                self.phase, self.deadline_s, self._wanted = Phase.OPEN, None, None
                guess = Guess(drawn.token, drawn.confidence)
                return [Answered(guess, message.compute_us, message.queue_us)]
        return []

    def _on_resume(self, message: Resume, now_s: float) -> list[Action]:
        if self.phase is not Phase.ASKING or message.number < self._first_number:
            return []  # a gap that is being filled: every chunk behind it names it again
        self._resumes = 1 if message.frontier > self._resumed_at else self._resumes + 1
        self._resumed_at = max(self._resumed_at, message.frontier)
        if self._resumes > MAX_RESUMES:
            return self._lost_worker(now_s, f"worker {self.worker} keeps losing the session")
        self._sent = message.frontier
        return self._send_steps(now_s)

    def _on_busy(self, message: Busy, now_s: float) -> list[Action]:
        if self.phase not in {Phase.OPENING, Phase.ASKING}:
            return self._lost_worker(now_s, "the pool is busy")
        self.phase = Phase.OPENING  # of a step: look for a worker when it is time, like after an open
        if now_s < self._busy_until_s:
            self._attempts_left += 1
        self._wait(now_s + min(message.retry_after_s, self.patience.open_deadline_s))
        return []

    def _take_heart(self, now_s: float) -> None:
        """A new ask has all its attempts."""
        self._attempts_left = self.patience.attempts
        self._busy_until_s = now_s + self.patience.open_deadline_s
        self._resumes, self._resumed_at = 0, -1

    def _lost_worker(self, now_s: float, reason: str) -> list[Action]:
        if self.phase in {Phase.ASKING, Phase.OPENING}:
            return self._reopen(now_s, reason)
        self.phase, self.deadline_s = Phase.CLOSED, None
        return []

    def _reopen(self, now_s: float, reason: str) -> list[Action]:
        if self._attempts_left == 0:
            self.phase = Phase.CLOSED
            return self._fail(reason)
        self._attempts_left -= 1
        self.epoch += 1
        self._number = self._first_number = 0
        self._resumed_at = -1
        self.phase = Phase.OPENING
        self._wait(now_s + self.patience.open_deadline_s)
        return [SendOpen(Open(self.epoch, self.digest, self.codec, self.sampling))]

    def _fail(self, reason: str) -> list[Action]:
        self.deadline_s = None
        if self._wanted is None:
            return []
        self._wanted = None
        return [Failed(reason)]

    def _send_steps(self, now_s: float) -> list[Action]:
        """Everything from the believed frontier to the wanted position, in chunks."""
        assert self._wanted is not None
        self.phase = Phase.ASKING
        # The wanted position goes up even if the worker has it (from a log, say): it draws the token.
        start, end = min(self._sent, self._wanted), self._wanted + 1
        self.rows_sent += end - start
        chunk = max(1, CHUNK_BYTES // self.states.row_bytes)
        actions: list[SendStep] = []
        self._first_number = self._number + 1
        for first in range(start, end, chunk):
            after = min(first + chunk, end)
            self._number += 1
            wants = [self._wanted] if after == end else []
            allowed = [self._allowed] if wants and self._allowed else []
            rows = self.states.rows(first, after)
            step = Step(self.epoch, self._number, first, after - first, rows, wants, allowed)
            actions.append(SendStep(self.worker, step))
        self._sent = end
        self._last_step = actions[-1]
        self._few_rows = end - start <= FEW_ROWS
        self._await_reply(now_s, end - start)
        return list(actions)

    def _await_reply(self, now_s: float, rows: int) -> None:
        patience_s = self.patience.step_deadline_s * (1 + rows / ROWS_PER_DEADLINE)
        self._asked_s, self._leave_s = now_s, now_s + patience_s
        half_s = patience_s / 2
        self._wait(now_s + (self.reply_time.resend_after_s(half_s) if self._few_rows else half_s))

    def _resend(self) -> list[Action]:
        """The wanted step again: it, its reply, or a chunk before it was lost, and the worker says which."""
        assert self._last_step is not None
        again, self._last_step = self._last_step, None
        self.rows_sent += again.message.count
        self._wait(self._leave_s)
        return [again]

    def _observe(self, now_s: float) -> None:
        """Learn from the answer to a step of few rows."""
        if self._few_rows:
            self.reply_time.observe(now_s - self._asked_s)

    def _wait(self, until_s: float) -> None:
        """Until then, but no longer than the pending ask may take."""
        self.deadline_s = until_s if self._wanted is None else min(until_s, self._give_up_s)

    def _allowance_s(self, position: int) -> float:
        """What the longest catch-up that `position` may need adds to a deadline."""
        return self.patience.step_deadline_s * (position + 1) / ROWS_PER_DEADLINE
