"""What the decode loop asks of its caller."""

from __future__ import annotations

from typing import NamedTuple

from edge_agent.want import Want

Allowed = tuple[int, ...] | None


class RunStage(NamedTuple):
    """Run edge stage `stage` over all its pending positions; report its guess among `allowed`.

    Where no guess could end the ladder, none is wanted: report None.

    Attributes:
        guess: whether one is wanted.
        asked: the cloud is asked whatever is guessed: report the states as soon as they are there, so that
            the question is on its way while the exit guesses.
    """

    stage: int
    allowed: Allowed = None
    guess: bool = True
    asked: bool = False


class AskCloud(NamedTuple):
    """Ask the cloud for tokens; report each, or that there will be none."""

    wants: tuple[Want, ...]


class Rewind(NamedTuple):
    """The text is `length` tokens long, prompt included: forget what was behind."""

    length: int


class Wait(NamedTuple):
    """Nothing to do before the cloud has spoken."""


class Finish(NamedTuple):
    """The answer is complete: `stop` (a stop token) or `length`."""

    reason: str


Action = RunStage | AskCloud | Rewind | Wait | Finish
