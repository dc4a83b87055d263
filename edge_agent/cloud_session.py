"""One session's conversation with the cloud. Sans I/O: events in, actions out, time passed in.

Theory. The edge leads: it counts the epoch up each time it opens the session, so whichever worker
holds the newest epoch is the session's worker, and every word of an older epoch is dropped. The edge
also owns the truth (`StateLog`): it believes that the worker holds the states below a frontier
(`Upload`), and any `Opened` or `Resume` corrects that belief, so a lost, doubled or late message costs
time, never text. Any number of tokens may be wanted at once; a rewind takes back what is no longer.

    phase     event                          next      actions
    -------   ----------------------------   -------   ---------------------------------------
    CLOSED    open, ask                      OPENING   SendOpen(epoch + 1)
    OPENING   Opened                         OPEN      SendStep… for what is wanted, if anything is
    OPENING   deadline, Busy, Refused*       OPENING   SendOpen(epoch + 1) while attempts last
    OPENING   Opened of an older epoch       OPENING   – (this open and later ones may take twice as long)
    OPEN      ask                            ASKING    SendStep… from the believed frontier
    ASKING    ask                            ASKING    SendStep… behind those that are waited for
    ASKING    Tokens of a step waited for    ASKING    Answered… (OPEN when nothing is wanted any more)
    ASKING    Resume                         ASKING    SendStep… from the worker's frontier
    ASKING    resend is due                  ASKING    SendStep: the one that is late, again
    ASKING    deadline, worker gone, Refused* OPENING  SendOpen(epoch + 1) while attempts last
    ASKING    worker lost, for the 2nd time  REFUSED   Failed
    ASKING    rewind                         ASKING    – (OPEN when nothing is wanted any more)
    OPEN, ASKING  push                       same      SendStep… that want nothing
    OPEN      worker gone, Refused*          CLOSED    –
    not OPENING  Opened of another worker    same      – (`is_in_vain`: the link sends it a Close)
    any       attempts or time used up       CLOSED    Failed if anything is wanted, else NotTaken
    OPENING   the third Refused*             CLOSED    the same
    ASKING    the third Refused*             OPENING   – (SendOpen when an open's deadline is over)
    any       the answer's time is over      CLOSED    Failed, if anything is wanted (late)
    any       link lost                      CLOSED    Failed, if anything is wanted
    any       Refused, not retryable         REFUSED   Failed, if anything is wanted
    ASKING    Busy                           OPENING   – (SendOpen when it is time to try again)
    REFUSED   ask                            REFUSED   Failed
    REFUSED   message                        REFUSED   –
    any       message of another epoch       same      –
                                                       (* retryable)

Three clocks run. A step or reply that was lost is sent for again in the same epoch, so the worker
answers from what it has; a worker that stays silent is left (`InFlight`). And `deadline_s` after a
question the edge says its own guess, whatever is still on its way: of that token and of all that were
wanted behind it. It does so earlier where the answer's own time is over (`until_s`). That is `late`: no
word about the link, unless a try had failed before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

from edge_agent.in_flight import InFlight
from edge_agent.patience import Patience
from edge_agent.reply_time import ReplyTime
from edge_agent.rungs import Guess
from edge_agent.session_actions import Action, Answered, Failed, NotTaken, SendOpen, SendStep
from edge_agent.states import StateLog
from edge_agent.uplink import Uplink
from edge_agent.upload import Upload
from edge_agent.want import Want
from shared.tensors.compression import rows_codec
from shared.wire.messages import (
    Busy,
    Close,
    DrawnToken,
    Open,
    Opened,
    Refused,
    Resume,
    Sampling,
    ToEdge,
    Tokens,
)

OUT_OF_TIME = "the answer's time was over"
# Silence may be one worker's, so time alone bounds how often another is asked. But a pool that has said no so
# often to an open means it, and workers that take a session and don't keep it are asked less often.
MAX_REBUFFS = 3
# How much longer an open may take where workers are heard too late; and a step than an open did.
MAX_OPEN_GROWTH = 4
STEP_PER_OPEN = 3
# A worker that keeps answering Resume to what it asked for, and gets no further, is broken: go elsewhere.
MAX_RESUMES = 4
# A step over which so many workers died may be what kills them: no third one gets it.
MAX_DEATHS = 2


class Phase(Enum):
    """Where the conversation stands."""

    CLOSED = auto()
    OPENING = auto()
    OPEN = auto()
    ASKING = auto()
    REFUSED = auto()


class CloudSession:
    """The edge's end of one session.

    Args:
        digest: the edge's bundle.
        vocab_size: a token outside it is no token.
        codec: how the states travel; `states` are in its `rows_codec`.
        sampling: how the cloud draws.
        states: the session's encoded hidden states.
        patience: how long to wait for what.
        reply_time: how long replies take on this link; all its sessions share one.
        uplink: how fast states travel on it, likewise.

    Attributes:
        phase: see the table above.
        deadline_s: when `on_deadline` is due, on the caller's clock; None while nothing is awaited.
        worker: who serves the session.
        refusal: why the session was refused for good.
        requests: tokens asked for.
    """

    def __init__(
        self,
        digest: str,
        vocab_size: int,
        codec: str,
        sampling: Sampling,
        states: StateLog,
        patience: Patience | None = None,
        reply_time: ReplyTime | None = None,
        uplink: Uplink | None = None,
    ) -> None:
        self.patience = patience or Patience()
        self.states = states
        self.phase = Phase.CLOSED
        self.deadline_s: float | None = None
        self.worker = ""
        self.refusal = ""
        self.requests = 0
        self.epoch = 0
        self._digest = digest
        self._vocab_size = vocab_size
        self._codec = codec
        self._sampling = sampling
        self._upload = Upload(states, codec)
        self._in_flight = InFlight(reply_time or ReplyTime(), uplink or Uplink())
        self._wants: dict[int, _Wanted] = {}  # by position, ascending
        self._open_due_s = math.inf  # in phase OPENING
        self._opened_s = 0.0  # when the latest open was sent
        self._open_took_s = 0.0
        self._open_growth = 1
        self._search_end_s = math.inf  # of a search that nothing is wanted of
        self._resting = False  # in phase OPENING: the next open is sent when it is time
        self._setback = ""  # what went wrong last
        self._rebuffs = 0
        self._attempts_left = 0
        self._busy_until_s = 0.0  # until then a busy pool costs no attempt
        self._resumes = 0  # one after another without progress
        self._resumed_at = -1  # as far as this epoch's worker was
        self._deaths = 0  # workers lost since the last answer

    @property
    def rows_sent(self) -> int:
        """Positions uploaded, repeats counted."""
        return self._upload.rows_sent

    def open(self, now_s: float) -> list[Action]:
        """Look for a worker before one is needed."""
        if self.phase is not Phase.CLOSED:
            return []
        self._take_heart(now_s)
        return self._done(self._reopen(now_s, "no worker took the session"))

    def ask(self, wants: Sequence[Want], now_s: float, until_s: float = math.inf) -> list[Action]:
        """Ask for tokens whose states are in the log.

        Args:
            wants: ascending, behind all that is wanted already.
            now_s: the caller's clock.
            until_s: when an answer is of no use any more, if that is before the patience's end.
        """
        self.requests += len(wants)
        if self.phase is Phase.REFUSED:
            return [Failed(self.refusal)]
        if not self._wants:
            self._take_heart(now_s)
            self._deaths = 0
        for want in wants:
            give_up_s = now_s + self.patience.deadline_s + self.patience.catch_up_s(want.position + 1)
            self._wants[want.position] = _Wanted(want, give_up_s, until_s)
        return self._done(self._asked(wants, now_s))

    def push(self, now_s: float) -> list[Action]:
        """Send states that nothing is wanted of yet, so that a later ask finds them there."""
        if self.phase not in {Phase.OPEN, Phase.ASKING}:
            return []
        return self._done(self._send([], self.states.frontier, now_s))

    def rewind(self, position: int) -> None:
        """The states from `position` on have changed: nothing is wanted there, and they are sent anew."""
        self._upload.rewind(position)
        self._in_flight.rewind(position)
        self._wants = {each: wanted for each, wanted in self._wants.items() if each < position}
        if self.phase is Phase.ASKING and not self._wants:
            self.phase = Phase.OPEN
        self._done([])

    def on_message(self, message: ToEdge, now_s: float) -> list[Action]:
        """A word from a worker; words of other epochs are dropped."""
        if self.phase is Phase.REFUSED:
            return []
        if message.epoch != self.epoch:
            return self._done(self._heard_late(message))
        return self._done(self._heard(message, now_s))

    @property
    def is_unserved(self) -> bool:
        """Whether the session has no worker, and nothing that is wanted waits for one."""
        return self.phase is Phase.CLOSED or (self.phase is Phase.OPENING and not self._wants)

    def is_in_vain(self, message: Opened) -> bool:
        """Whether a worker has taken a session that it will never serve: it need not keep it.

        The pool's subscription may hand an open to two workers, and an old one may come late.
        """
        if message.epoch != self.epoch:
            return message.epoch < self.epoch
        if self.phase in {Phase.OPEN, Phase.ASKING}:
            return message.worker != self.worker
        return self.phase is not Phase.OPENING

    def _heard(self, message: ToEdge, now_s: float) -> list[Action]:
        match message:
            case Opened():
                return self._on_opened(message, now_s)
            case Tokens():
                return self._on_tokens(message, now_s)
            case Resume():
                return self._on_resume(message, now_s)
            case Refused(retryable=False):
                return self._refuse(message.message)
            case Refused():
                return self._rebuffed(now_s, message.message)
            case Busy():
                return self._on_busy(message, now_s)

    def on_deadline(self, now_s: float) -> list[Action]:
        """Time is up, if it is: `deadline_s` may have moved since the caller's timer was set."""
        if self.deadline_s is None or now_s < self.deadline_s:
            return []
        return self._done(self._overdue(now_s))

    def _overdue(self, now_s: float) -> list[Action]:
        if now_s >= self._give_up_s:
            words = f"the cloud did not answer within {self.patience.deadline_s:g} s"
            return self._give_up(f"{words}: {self._setback}" if self._setback else words)
        if now_s >= self._until_s:
            return self._give_up(OUT_OF_TIME, late=self._is_first_try)
        if self.phase is Phase.OPENING:
            return self._reopen(now_s, "no worker took the session in time")
        again = self._in_flight.again(now_s)
        if again is None:
            return self._reopen(now_s, f"worker {self.worker} did not answer in time")
        self._upload.rows_sent += sum(step.count for step in again)
        return [SendStep(self.worker, step) for step in again]

    def on_worker_gone(self, worker: str, now_s: float, *, lost: bool = False) -> list[Action]:
        """The broker says that a worker has left, or died (`lost`)."""
        if worker != self.worker or self.phase not in {Phase.OPEN, Phase.ASKING}:
            return []
        if lost and self.phase is Phase.ASKING:
            self._deaths += 1
            if self._deaths >= MAX_DEATHS:
                words = f"{self._deaths} workers died over this session's step: no other one gets it"
                return self._done(self._refuse(words))
        return self._done(self._lost_worker(now_s, f"worker {worker} is gone"))

    def on_link_lost(self, reason: str) -> list[Action]:
        """The broker can't be reached: nothing is awaited any more."""
        if self.phase is Phase.REFUSED:
            return []
        return self._done(self._give_up(reason))

    def close(self) -> Close | None:
        """The word to the session's last worker that it is over; None if it never had one.

        One that was given up hears it as well: it may just be slow, and would keep the session until its
        time to live is over.
        """
        self._done(self._give_up(""))
        return Close(self.epoch) if self.worker else None

    @property
    def _give_up_s(self) -> float:
        """When the oldest question has waited for long enough, or a search that nothing waits for."""
        return min((wanted.give_up_s for wanted in self._wants.values()), default=self._search_end_s)

    @property
    def _until_s(self) -> float:
        """When an answer that is wanted is of no use any more."""
        return min((wanted.until_s for wanted in self._wants.values()), default=math.inf)

    @property
    def _is_first_try(self) -> bool:
        """Whether nothing has failed since what is wanted was asked, or since the last answer."""
        return self._attempts_left >= self.patience.attempts - 1

    def _done(self, actions: list[Action]) -> list[Action]:
        """Set the deadline for what is awaited now."""
        end_s = min(self._give_up_s, self._until_s)
        match self.phase:
            case Phase.OPENING:
                self.deadline_s = min(self._open_due_s, end_s)
            case Phase.ASKING:
                due_s = self._in_flight.due_s
                self.deadline_s = end_s if due_s is None else min(due_s, end_s)
            case _:
                self.deadline_s = None
        return actions

    def _asked(self, wants: Sequence[Want], now_s: float) -> list[Action]:
        match self.phase:
            case Phase.OPEN:
                self._attempts_left -= 1
                return self._send(wants, wants[-1].position + 1, now_s)
            case Phase.ASKING:
                return self._send(wants, wants[-1].position + 1, now_s)
            case Phase.CLOSED:
                return self._reopen(now_s, "no worker took the session")
            case _:  # OPENING: sent once a worker is there
                return []

    def _on_opened(self, message: Opened, now_s: float) -> list[Action]:
        if self.phase is not Phase.OPENING:
            return []  # a duplicate
        self.phase, self._resting = Phase.OPEN, False
        self._open_took_s = min(now_s - self._opened_s, self._open_patience_s)
        self.worker = message.worker
        self._upload.open_at(message.frontier)
        return self._send_all(now_s)

    def _on_tokens(self, message: Tokens, now_s: float) -> list[Action]:
        if self.phase is not Phase.ASKING:
            return []
        if any(drawn.token >= self._vocab_size for drawn in message.tokens):
            return self._rebuffed(now_s, f"worker {self.worker} sent a token that the model does not have")
        answers = [
            self._answered(drawn, message, now_s)
            for drawn in message.tokens
            if self._in_flight.is_unanswered(message.number, drawn.position)
        ]
        if answers:
            self._take_heart(now_s)
            self._deaths = 0
        if not self._wants:
            self.phase = Phase.OPEN
        return answers

    def _answered(self, drawn: DrawnToken, message: Tokens, now_s: float) -> Action:
        worker_s = (message.queue_us + message.compute_us) / 1e6
        self._in_flight.settle(message.number, drawn.position, now_s, worker_s)
        del self._wants[drawn.position]
        guess = Guess(drawn.token, drawn.confidence)
        return Answered(drawn.position, guess, message.compute_us, message.queue_us)

    def _on_resume(self, message: Resume, now_s: float) -> list[Action]:
        if self.phase not in {Phase.OPEN, Phase.ASKING} or not self._upload.is_current(message.number):
            return []  # a gap that is being filled: every chunk behind it names it again
        self._resumes = 1 if message.frontier > self._resumed_at else self._resumes + 1
        self._resumed_at = max(self._resumed_at, message.frontier)
        if self._resumes > MAX_RESUMES:
            return self._rebuffed(now_s, f"worker {self.worker} keeps losing the session")
        self._upload.resume_at(message.frontier, message.taken)
        return self._send_all(now_s)

    def _on_busy(self, message: Busy, now_s: float) -> list[Action]:
        if self.phase not in {Phase.OPENING, Phase.ASKING}:
            return self._lost_worker(now_s, "the pool is busy")
        if now_s < self._busy_until_s:
            self._attempts_left += 1
        return self._rest(now_s, message.retry_after_s)  # of a step too

    def _take_heart(self, now_s: float) -> None:
        """All attempts are there again: nothing was asked, or an answer came."""
        self._attempts_left = self.patience.attempts
        self._busy_until_s = now_s + self.patience.open_deadline_s
        self._search_end_s = now_s + self.patience.deadline_s
        self._setback, self._rebuffs = "", 0
        self._resumes, self._resumed_at = 0, -1

    def _heard_late(self, message: ToEdge) -> list[Action]:
        """A word of another epoch is dropped; but that a worker took an open tells how long one takes."""
        if isinstance(message, Opened) and message.epoch < self.epoch and self.phase is Phase.OPENING:
            self._open_growth = min(MAX_OPEN_GROWTH, 2 * self._open_growth)
            self._open_due_s = max(self._open_due_s, self._opened_s + self._open_patience_s)
        return []

    @property
    def _open_patience_s(self) -> float:
        return self._open_growth * self.patience.open_deadline_s

    def _rebuffed(self, now_s: float, reason: str) -> list[Action]:
        """A worker says no, or what it says will not do: try the next one, at first at once."""
        if self._resting:
            return []  # a duplicate: nobody has been asked since
        self._rebuffs += 1
        if self._rebuffs < MAX_REBUFFS or self.phase is Phase.OPEN:
            return self._lost_worker(now_s, reason)
        if self.phase is Phase.OPENING:
            return self._give_up(reason)
        self._setback = reason
        return self._rest(now_s, self.patience.open_deadline_s)

    def _rest(self, now_s: float, rest_s: float) -> list[Action]:
        """Look for a worker when it is time."""
        self.phase, self._resting = Phase.OPENING, True
        self._open_due_s = now_s + min(rest_s, self.patience.open_deadline_s)
        return []

    def _lost_worker(self, now_s: float, reason: str) -> list[Action]:
        if self.phase in {Phase.ASKING, Phase.OPENING}:
            return self._reopen(now_s, reason)
        self.phase = Phase.CLOSED
        return []

    def _reopen(self, now_s: float, reason: str) -> list[Action]:
        self._in_flight.clear()
        if self._attempts_left == 0:
            return self._give_up(reason)
        self._attempts_left -= 1
        self._setback, self._resting = reason, False
        self.epoch += 1
        self._upload.begin(self.epoch)
        self._resumed_at = -1
        self.phase = Phase.OPENING
        self._opened_s = now_s
        self._open_due_s = now_s + self._open_patience_s
        return [SendOpen(Open(self.epoch, self._digest, rows_codec(self._codec), self._sampling))]

    def _give_up(self, reason: str, *, late: bool = False) -> list[Action]:
        searched = self.phase is Phase.OPENING and not self._wants
        self.phase = Phase.CLOSED
        return [NotTaken(reason)] if searched else self._fail(reason, late=late)

    def _refuse(self, reason: str) -> list[Action]:
        self.phase = Phase.REFUSED
        self.refusal = reason
        return self._fail(reason)

    def _fail(self, reason: str, *, late: bool = False) -> list[Action]:
        self._in_flight.clear()
        if not self._wants:
            return []
        self._wants.clear()
        return [Failed(reason, late)]

    def _send_all(self, now_s: float) -> list[Action]:
        """Everything that is wanted, from the believed frontier."""
        self._in_flight.clear()
        if not self._wants:
            return []
        wants = [wanted.want for wanted in self._wants.values()]
        return self._send(wants, wants[-1].position + 1, now_s)

    def _send(self, wants: Sequence[Want], end: int, now_s: float) -> list[Action]:
        """The rows that the worker lacks below `end`, and what is wanted of them."""
        before = self._upload.rows_sent
        steps = self._upload.steps(wants, end)
        rows = self._upload.rows_sent - before
        sent_bytes = sum(len(step.states) for step in steps)
        for step in steps:
            if step.wants:
                self.phase = Phase.ASKING
                self._in_flight.add(step, rows, sent_bytes, self._step_patience_s(rows), now_s)
        return [SendStep(self.worker, step) for step in steps]

    def _step_patience_s(self, rows: int) -> float:
        """How long a step may take: on a link that was slow to open a session, longer."""
        return max(
            self.patience.step_deadline_s, STEP_PER_OPEN * self._open_took_s
        ) + self.patience.catch_up_s(rows)


class _Wanted(NamedTuple):
    """A question, when it has waited for long enough, and when its answer is of no use any more."""

    want: Want
    give_up_s: float
    until_s: float
