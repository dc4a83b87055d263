"""A cloud that answers alone: token by token, or drafting with its own exits and verifying with the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from ops.bench.paper.climb import Climb
from ops.bench.paper.words import DraftPlan
from ops.bench.paper.writing import Writing


class Written(NamedTuple):
    """Tokens that are settled, and how often the last rung ran for them."""

    tokens: tuple[int, ...]
    forwards: int


def write_plainly(climb: Climb, writing: Writing) -> Iterator[Written]:
    """Every token goes through all layers; keys and values are kept."""
    last = len(climb.rungs) - 1
    told = 0
    while not writing.ended:
        climb.feed(0, _unread(climb, writing))
        for rung in range(last + 1):
            rows = climb.run(rung)
        position = len(writing.ids)
        writing.keep(climb.draw(last, rows[-1:], [writing.allowed], position)[0].token)
        yield Written(writing.tokens[told:], 1)
        told = len(writing.tokens)


class _Drafted(NamedTuple):
    position: int
    token: int
    allowed: tuple[int, ...] | None


@dataclass(slots=True)
class _Drafter:
    """Drafts with the exits, verifies with the rest.

    Source: Zhang et al., Draft & Verify (arXiv 2309.08168); Elhoushi et al., LayerSkip (arXiv 2404.16710),
    section 4.3, from which the verifying layers take over what the exit's layers have computed.
    """

    climb: Climb
    writing: Writing
    plan: DraftPlan
    _newest: torch.Tensor = field(init=False)  # the first rung's last row, (1, hidden)

    @property
    def _last(self) -> int:
        return len(self.climb.rungs) - 1

    def round(self) -> None:
        """One draft and its verification; at least one token more is settled."""
        drafted = self._draft()
        if self.plan.bonus and not self.writing.ended:
            self._read()
        for rung in range(1, self._last):
            self._catch_up(rung)
        self._verify(drafted)

    def _draft(self) -> list[_Drafted]:
        drafted: list[_Drafted] = []
        while not self.writing.ended and len(drafted) < self.plan.longest:
            self._read()
            position, allowed = len(self.writing.ids), self.writing.allowed
            token, sure = self._guess(position)
            drafted.append(_Drafted(position, token, allowed))
            self.writing.keep(token)
            if self.plan.stop_unsure and not sure:
                break
        return drafted

    def _read(self) -> None:
        """The first rung takes in the text's end."""
        self.climb.feed(0, _unread(self.climb, self.writing))
        self._newest = self.climb.run(0)[-1:]

    def _guess(self, position: int) -> tuple[int, bool]:
        """The first sure exit's token, or the deepest one's."""
        row = self._newest
        for rung in range(self._last):
            if rung:
                row = self.climb.run(rung)[-1:]
            drawn = self.climb.guess(rung, row, self.writing.allowed, position)
            if self.climb.is_sure(rung, drawn):
                return drawn.token, True
        return drawn.token, False

    def _catch_up(self, rung: int) -> None:
        if self.climb.frontier(rung) < self.climb.frontier(0):
            self.climb.run(rung)

    def _verify(self, drafted: list[_Drafted]) -> None:
        """The last rung's word on each drafted token; from the first that differs the text is its."""
        start = self.climb.frontier(self._last)
        rows = self.climb.run(self._last)
        wanted = [(each.position, each.allowed) for each in drafted]
        if self.plan.bonus and not self.writing.ended:
            wanted.append((len(self.writing.ids), self.writing.allowed))
        said = self._say(rows, start, wanted)
        for each, token in zip(drafted, said, strict=False):
            if token != each.token:
                self.writing.cut(each.position)
                self.writing.keep(token)
                self.climb.cut(each.position)
                return
        if len(said) > len(drafted):
            self.writing.keep(said[-1])

    def _say(
        self, rows: torch.Tensor, start: int, wanted: Sequence[tuple[int, tuple[int, ...] | None]]
    ) -> list[int]:
        """The last rung's tokens at the wanted positions; its head takes their rows at once.

        Greedy draws don't look at the position: rows with forced tokens between them may be drawn together.
        """
        chosen = rows[[position - 1 - start for position, _ in wanted]]
        drawn = self.climb.draw(self._last, chosen, [allowed for _, allowed in wanted], wanted[0][0])
        return [each.token for each in drawn]


def write_drafting(climb: Climb, writing: Writing, plan: DraftPlan) -> Iterator[Written]:
    """The exits' drafts, verified in one forward each: the text is that of `write_plainly`."""
    drafter = _Drafter(climb, writing, plan)
    told = 0
    while not writing.ended:
        drafter.round()
        yield Written(writing.tokens[told:], 1)
        told = len(writing.tokens)


def _unread(climb: Climb, writing: Writing) -> torch.Tensor:
    """Ids that the first rung has not seen, (n,)."""
    return torch.tensor(writing.ids[climb.frontier(0) :], dtype=torch.int64)
