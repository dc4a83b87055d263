"""Whether to draft on while the cloud is asked. Sans I/O: time is passed in.

Theory. The reply is still on its way for about τ, a draft takes the time d, and the guesses that are
asked about are all confirmed with probability p. If they are, the draft has saved the part of it that
lay in the wait, min(d, τ). If not, the right token waits for a draft that nobody wants, max(0, d - τ).
So the edge drafts while

    p · min(d, τ)  ≥  (1 - p) · max(0, d - τ)

which gives a window that grows with the delay and shrinks with each guess that is in doubt, and is
never worse than blocking as far as can be foreseen. A chain that will hardly hold is not drafted on
at all: its uploads and forwards would be other sessions' time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_agent.agreement import Agreement
from edge_agent.reply_time import ReplyTime

MIN_CHAIN = 0.2
_GAIN = 1 / 8


@dataclass(slots=True)
class DraftTime:
    """What a drafted token costs the edge, in seconds, over all sessions; 0 before the first."""

    mean_s: float = 0.0

    def observe(self, draft_s: float) -> None:
        """A token was drafted in that time."""
        self.mean_s += (draft_s - self.mean_s) * (_GAIN if self.mean_s else 1.0)


@dataclass(slots=True)
class Lookahead:
    """The window of one session.

    Attributes:
        limit: tokens drafted behind the oldest unanswered one; 0: never (blocking).
        reply_time: of the link. agreement: of the model. draft_time: of the edge.
    """

    limit: int = 0
    reply_time: ReplyTime = field(default_factory=ReplyTime)
    agreement: Agreement = field(default_factory=Agreement)
    draft_time: DraftTime = field(default_factory=DraftTime)

    def may_draft(self, drafted: int, chain: float, waited_s: float) -> bool:
        """Whether one more token is worth its time.

        Args:
            drafted: tokens behind the oldest unanswered one.
            chain: probability that all that is asked about will be confirmed.
            waited_s: since the oldest question.
        """
        if drafted >= self.limit or chain < MIN_CHAIN:
            return False
        draft_s, wait_s = self.draft_time.mean_s, self._remaining_s(waited_s)
        return chain * min(draft_s, wait_s) >= (1.0 - chain) * max(0.0, draft_s - wait_s)

    def _remaining_s(self, waited_s: float) -> float:
        """How long the oldest answer will still take; one that is late may be later yet."""
        if self.reply_time.mean_s is None:
            return float("inf")
        return max(self.reply_time.mean_s - waited_s, self.reply_time.deviation_s)
