"""The exit policy: is a stage's guess sure enough to be the token?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ExitPolicy:
    """One threshold per exit.

    Attributes:
        thresholds: confidence above which the exit answers, shallowest exit first. 1.0 is never
            passed: every token goes on to the next stage, and from the last exit to the cloud.
    """

    thresholds: tuple[float, ...]

    @classmethod
    def of(cls, thresholds: Sequence[float], exits: int) -> ExitPolicy:
        """A policy for `exits` exits; a single threshold stands for all of them.

        Raises:
            ConfigError: another number of thresholds, or one outside [0, 1].
        """
        values = tuple(thresholds) * exits if len(thresholds) == 1 else tuple(thresholds)
        if len(values) != exits:
            msg = f"{len(values)} thresholds for {exits} exits: give one, or one for each exit"
            raise ConfigError(msg)
        for value in values:
            if not 0.0 <= value <= 1.0:
                msg = f"threshold {value} is not a probability: use 0 (always exit) to 1 (never exit)"
                raise ConfigError(msg)
        return cls(values)

    def is_sure(self, exit_index: int, confidence: float) -> bool:
        """Whether a guess of that confidence ends the token at this exit."""
        return confidence > self.thresholds[exit_index]
