"""The steps of one session that are waited for, and the clocks that run over each. Sans I/O.

A step, or its reply, that was lost is sent for again when the link's usual reply time is well over, and again
after twice that time, and so on; a worker that stays silent for the step's whole patience is left. Once would
not do: what is sent again may be lost as well, or pass a worker that has nothing to say yet and whose next
word is lost.

Source: RFC 6298 section 5.5 (a timer backs off by doubling).
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.reply_time import ReplyTime
from edge_agent.uplink import Uplink
from shared.wire.messages import Step

# Steps of at most so many rows take about as long as one of a single row: their times are comparable.
FEW_ROWS = 16


@dataclass(slots=True)
class Awaited:
    """A step that wants tokens.

    Attributes:
        step: as it was sent.
        unanswered: its wanted positions that are still wanted.
        asked_s: when it was sent.
        leave_s: when a worker that has said nothing is left.
        wait_s: how long until it is sent again, the next time.
        due_s: when something has to be done about it.
        sent_bytes: of all that went up with it.
        few_rows: whether its reply time says something about the link.
        sent_again: which of them a reply answers is not known.
    """

    step: Step
    unanswered: set[int]
    asked_s: float
    leave_s: float
    wait_s: float
    due_s: float
    sent_bytes: int
    few_rows: bool
    sent_again: bool = False


class InFlight:
    """Awaited steps, in the order of their numbers.

    Args:
        reply_time: how long replies take on this link.
        uplink: how fast states travel on it.
    """

    def __init__(self, reply_time: ReplyTime, uplink: Uplink) -> None:
        self._reply_time = reply_time
        self._uplink = uplink
        self._steps: dict[int, Awaited] = {}

    def __bool__(self) -> bool:
        return bool(self._steps)

    @property
    def due_s(self) -> float | None:
        """When the first of them is due."""
        return min((each.due_s for each in self._steps.values()), default=None)

    def clear(self) -> None:
        """Wait for none of them any more."""
        self._steps.clear()

    def add(self, step: Step, rows: int, sent_bytes: int, patience_s: float, now_s: float) -> None:
        """Wait for a step that was just sent.

        Args:
            step: it.
            rows: that went up with it, its own included.
            sent_bytes: their states.
            patience_s: how long it may take. Twice as long as replies take in any case: on a slow link each
                step would else go up again, or never be answered.
            now_s: the caller's clock.
        """
        patience_s = max(patience_s, 2 * self._reply_time.likely_s)
        few_rows = rows <= FEW_ROWS
        half_s = patience_s / 2
        wait_s = self._reply_time.resend_after_s(half_s) if few_rows else half_s
        leave_s = now_s + patience_s
        self._steps[step.number] = Awaited(
            step, set(step.wants), now_s, leave_s, wait_s, now_s + wait_s, sent_bytes, few_rows
        )

    def is_unanswered(self, number: int, position: int) -> bool:
        """Whether that step's token for that position is still wanted."""
        awaited = self._steps.get(number)
        return awaited is not None and position in awaited.unanswered

    def settle(self, number: int, position: int, now_s: float, worker_s: float = 0.0) -> None:
        """A step's token has come. With the last of them it tells how long replies take, and bytes.

        Args:
            number: the step's.
            position: the token's.
            now_s: the caller's clock.
            worker_s: how long the worker says that it waited and computed.
        """
        awaited = self._steps[number]
        awaited.unanswered.discard(position)
        if not awaited.unanswered:
            if awaited.few_rows:
                self._reply_time.observe(now_s - awaited.asked_s)
            if not awaited.sent_again:
                self._uplink.observe(awaited.sent_bytes, now_s - awaited.asked_s, worker_s)
            del self._steps[number]

    def rewind(self, position: int) -> None:
        """Nothing from `position` on is wanted any more."""
        for number, awaited in list(self._steps.items()):
            awaited.unanswered = {each for each in awaited.unanswered if each < position}
            if not awaited.unanswered:
                del self._steps[number]

    def again(self, now_s: float) -> list[Step] | None:
        """Steps to send again now; None when the worker has been silent for too long."""
        due = [awaited for awaited in self._steps.values() if now_s >= awaited.due_s]
        if any(now_s >= awaited.leave_s for awaited in due):
            return None
        for awaited in due:
            awaited.sent_again = True
            awaited.wait_s *= 2
            awaited.due_s = min(awaited.leave_s, now_s + awaited.wait_s)
        return [awaited.step for awaited in due]
