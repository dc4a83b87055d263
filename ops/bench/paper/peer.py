"""The port that every row of the table is behind: a prompt in, an answer and its price out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from edge_agent.constraint import Constraint, Unconstrained
from ops.bench.paper.script import Script
from ops.bench.paper.timing import Timing


class Prompt(NamedTuple):
    """What is asked.

    Attributes:
        words: for people. ids: for the model.
        grammar: makes the answer's constraint.
    """

    words: str
    ids: tuple[int, ...]
    grammar: Callable[[], Constraint] = Unconstrained


class Peer(Protocol):
    """One way to answer."""

    async def answer(self, prompt: Prompt, new_tokens: int, script: Script | None) -> Timing:
        """Answer, and say what it cost; the link's bytes are counted by the caller.

        Args:
            prompt: what is asked.
            new_tokens: the answer's bound.
            script: what the exits say; None: what they think. The cloud has been told of it.

        Raises:
            LinkError: the cloud failed or fell silent.
        """
        ...
