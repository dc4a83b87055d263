"""A text as it is written: what may come next, what is forced, and where it ends. Sans torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from edge_agent.constraint import Constraint, Unconstrained


@dataclass(slots=True)
class Writing:
    """One answer in the making; the yardsticks' own, as `DecodeLoop` is the product's.

    Attributes:
        prompt: its ids.
        new_tokens: the answer's bound.
        stops: ids that end it and are not kept.
        constraint: makes the grammar of the answer.
        ids: prompt and answer so far, forced tokens included.
        ended: whether it is whole.
        allowed: ids that may come next; None: all.
    """

    prompt: Sequence[int]
    new_tokens: int
    stops: Collection[int] = ()
    constraint: Callable[[], Constraint] = Unconstrained
    ids: list[int] = field(init=False)
    ended: bool = field(init=False, default=False)
    allowed: tuple[int, ...] | None = field(init=False, default=None)
    _grammar: Constraint = field(init=False)

    def __post_init__(self) -> None:
        self.ids = list(self.prompt)
        self._grammar = self.constraint()
        self._look_ahead()

    @property
    def tokens(self) -> tuple[int, ...]:
        """The answer so far."""
        return tuple(self.ids[len(self.prompt) :])

    def keep(self, token: int) -> None:
        """The next token is this one; those that it forces follow."""
        self._append(token)
        self._look_ahead()

    def cut(self, length: int) -> None:
        """Back to the first `length` ids, and what may follow them."""
        kept = self.ids[len(self.prompt) : length]
        self.ids, self.ended, self._grammar = self.ids[:length], False, self.constraint()
        for token in kept:
            self._grammar.accept(token)
        self._look_ahead()

    def _append(self, token: int) -> None:
        if token in self.stops:
            self.ended = True
            return
        self.ids.append(token)
        self._grammar.accept(token)
        self.ended = len(self.ids) - len(self.prompt) >= self.new_tokens

    def _look_ahead(self) -> None:
        while not self.ended:
            allowed = self._grammar.allowed()
            if allowed is None or len(allowed) != 1:
                self.allowed = None if allowed is None else tuple(allowed)
                return
            self._append(allowed[0])
