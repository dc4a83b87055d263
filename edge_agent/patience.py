"""How long the edge waits for the cloud."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Rows of a catch-up that may take as long as a step.
_ROWS_PER_STEP: Final = 128


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the edge waits.

    A worker that is silent goes on being dealt opens until its keep-alive ends. So that one of two does not
    cost an answer, several opens have to fit into `deadline_s` behind a step that nobody answered.

    Attributes:
        open_deadline_s: for a worker to take the session.
        step_deadline_s: for the answer to a step; more than the queue that a worker may have
            (`worker.max_queue_ms`), or edges would leave whoever is merely busy.
        attempts: how often an ask is tried, each time with a newer epoch.
        deadline_s: for the answer to an ask, over all attempts.
    """

    open_deadline_s: float = 0.375
    step_deadline_s: float = 0.6
    attempts: int = 100
    deadline_s: float = 3.0

    def catch_up_s(self, rows: int) -> float:
        """What a catch-up of `rows` adds to a deadline."""
        return self.step_deadline_s * rows / _ROWS_PER_STEP
