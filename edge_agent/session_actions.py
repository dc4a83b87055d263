"""What the edge's end of a session asks of its link."""

from __future__ import annotations

from typing import NamedTuple

from edge_agent.rungs import Guess
from shared.wire.messages import Open, Step


class SendOpen(NamedTuple):
    """Publish to the pool."""

    message: Open


class SendStep(NamedTuple):
    """Publish to the session's worker."""

    worker: str
    message: Step


class Answered(NamedTuple):
    """The token after `position` is known."""

    position: int
    guess: Guess
    compute_us: int
    queue_us: int


class Failed(NamedTuple):
    """What is wanted stays unanswered; the edge goes on alone.

    Attributes:
        reason: in words for people.
        late: only the answer's own time was over: that says nothing about the link.
    """

    reason: str
    late: bool = False


class NotTaken(NamedTuple):
    """No worker took the session, and nothing was wanted of one yet."""

    reason: str


Action = SendOpen | SendStep | Answered | Failed | NotTaken
