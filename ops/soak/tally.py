"""Counts what answers came to."""

from __future__ import annotations

from collections import Counter
from typing import Final

from ops.faults.heard import Heard
from ops.faults.oracle import Oracle, said_of
from ops.soak.spells import Allowance

_ERRORS_KEPT: Final = 20


class Tally:
    """Judges answers and counts.

    Args:
        oracle: knows what each answer has to be.

    Attributes:
        count: by figure, as the report's summary names it.
        kinds: answers by kind of question.
        errors: what was wrong, the first few.
    """

    def __init__(self, oracle: Oracle) -> None:
        self.count: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.errors: list[str] = []
        self._oracle = oracle

    async def judge(self, heard: Heard, allowance: Allowance, kind: str, who: str) -> None:
        """Judge what was heard of one question."""
        lost = heard.lost_or_doubled(begun_anew=allowance.begins_anew, deaf=allowance.deaf)
        heard.others.clear()  # counted; what comes later is counted by `lose`
        if heard.answer is None:
            self._fail("failed_answers", f"{who}: {heard.failure or 'no answer'}")
            return
        self.count["answers"] += 1
        self.kinds[kind] += 1
        self.count["tokens"] += len(heard.answer["tokens"])
        self.count["degraded_answers"] += heard.answer["degraded"]
        self.count["degraded_tokens"] += sum(token.degraded for token in said_of(heard.answer))
        if heard.answer["degraded"] and not allowance.may_degrade:
            self._fail("failed_answers", f"{who}: degraded without need: {heard.answer['note']}")
        self.lose(lost, who)
        if words := await self._oracle.differs(heard.request, heard.answer):
            self._fail("mismatches", f"{who}: {words}")

    def lose(self, tokens: int, who: str) -> None:
        """So many tokens or answers are missing or there twice."""
        if tokens:
            self._fail("lost_or_doubled", f"{who}: {tokens} tokens or answers missing or there twice", tokens)

    def fail_recovery(self, words: str) -> None:
        """The installation did not come back."""
        self._fail("failed_recoveries", words)

    def note(self, words: str) -> None:
        """Keep what a reader should know, if it is among the first few."""
        if len(self.errors) < _ERRORS_KEPT:
            self.errors.append(words)

    def _fail(self, figure: str, words: str, times: int = 1) -> None:
        self.count[figure] += times
        self.note(words)
