"""What may come next: the port between the decode loop and a task's grammar.

A constraint makes an invalid answer impossible instead of unlikely. Where it leaves a single token, that
token is *forced*: it is kept without a forward, and every stage reads it later, with its next catch-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self


class Constraint(Protocol):
    """Follows one answer, token by token."""

    def allowed(self) -> Sequence[int] | None:
        """The ids that may come next, ascending, at least one; None: every id."""
        ...

    def accept(self, token: int) -> None:
        """Move on: `token` is one of `allowed()`."""
        ...

    def fork(self) -> Self:
        """One that stands where this one does, and goes its own way from here on."""
        ...


class Unconstrained:
    """Every token may follow every other."""

    def allowed(self) -> None:
        """Any id."""
        return

    def accept(self, token: int) -> None:
        """Nothing to follow."""

    def fork(self) -> Self:
        """The same: there is no place to keep."""
        return self
