"""How long the edge waits for the cloud."""

from __future__ import annotations

from dataclasses import dataclass


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
