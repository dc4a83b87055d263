"""What was heard of one answer, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from edge_agent.request import Request, TokenEvent

By = Literal["wire", "mqtt"]


@dataclass(slots=True)
class Heard:
    """One request, everything that its asker was told, and when.

    Attributes:
        by: over the edge's own wire, or as a device.
        events: token events in the order in which they came. at_s: when each was decided (wire) or came
            (MQTT), in monotonic seconds.
        asked_s, answered_s: when the question went out first, and when its answer came; None: not yet.
        answer: the first answer. others: answers to the same prompt that differ from it.
        failure: why there is no answer; empty when there is one.
    """

    request: Request
    by: By
    events: list[TokenEvent] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    answer: dict[str, Any] | None = None
    others: list[dict[str, Any]] = field(default_factory=list)
    failure: str = ""
    asked_s: float | None = None
    answered_s: float | None = None

    def hear(self, event: TokenEvent, at_s: float) -> None:
        """Take an event; the first one again means that the edge began anew."""
        if event.done:
            return
        self.events.append(event)
        self.at_s.append(at_s)

    def take(self, answer: dict[str, Any], at_s: float | None = None) -> None:
        """Take an answer or a failure, which came at a monotonic time."""
        if self.answered_s is None:
            self.answered_s = at_s
        if "error" in answer:
            self.failure = f"{answer['error']['code']}: {answer['error']['message']}"
        elif self.answer is None:
            self.answer = answer
        elif self.answer["tokens"] != answer["tokens"]:
            self.others.append(answer)

    @property
    def longest_gap_s(self) -> float:
        """The longest time between two tokens."""
        return max((later - earlier for earlier, later in pairwise(self.at_s)), default=0.0)

    @property
    def longest_wait_s(self) -> float:
        """The longest time in which its asker heard nothing: before the first token and the answer, too."""
        moments = [self.asked_s, *self.at_s, self.answered_s]
        heard_s = [moment_s for moment_s in moments if moment_s is not None]
        return max((later - earlier for earlier, later in pairwise(heard_s)), default=0.0)

    def lost_or_doubled(self, *, begun_anew: bool = False, deaf: bool = False) -> int:
        """Tokens that the stream lacks, has twice, or has otherwise than the answer; and further answers.

        Args:
            begun_anew: the edge died, so the stream began again at its first token.
            deaf: the broker was away, and with it events at QoS 0; none may come twice all the same.
        """
        if self.answer is None:
            return 0
        events = _last_run(self.events) if begun_anew else self.events
        indices = [event.index for event in events]
        tokens = self.answer["tokens"]
        doubled = len(indices) - len(set(indices))
        strange = sum(1 for event in events if not _is_token(event, tokens))
        lost = 0 if deaf and self.by == "mqtt" else len(tokens) - len(set(indices))
        return doubled + strange + max(0, lost) + len(self.others)


def _last_run(events: list[TokenEvent]) -> list[TokenEvent]:
    starts = [place for place, event in enumerate(events) if event.index == 0]
    return events[starts[-1] :] if starts else events


def _is_token(event: TokenEvent, tokens: list[dict[str, Any]]) -> bool:
    if not 0 <= event.index < len(tokens):
        return False
    token = tokens[event.index]
    return (event.text, event.rung, event.degraded) == (token["text"], token["rung"], token["degraded"])
