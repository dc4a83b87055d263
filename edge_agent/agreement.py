"""How often the cloud says what the edge had guessed. Sans I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

# What an edge believes before it has heard anything weighs as much as so many answers.
_PRIOR_ANSWERS = 4.0
_PRIOR_SURE, _PRIOR_UNSURE = 0.9, 0.5
# A share of all that was heard before is forgotten with each answer: a home's talk changes slowly.
_FORGET = 1 / 64


@dataclass(slots=True)
class _Share:
    agreed: float
    answers: float = _PRIOR_ANSWERS

    def observe(self, agreed: bool) -> None:
        self.agreed += (1.0 if agreed else 0.0) - _FORGET * self.agreed
        self.answers += 1.0 - _FORGET * self.answers


@dataclass(slots=True)
class Agreement:
    """Shares of guesses that the cloud confirmed, sure and unsure ones apart; one for all sessions."""

    _sure: _Share = field(default_factory=lambda: _Share(_PRIOR_SURE * _PRIOR_ANSWERS))
    _unsure: _Share = field(default_factory=lambda: _Share(_PRIOR_UNSURE * _PRIOR_ANSWERS))

    def share(self, *, sure: bool) -> float:
        """The probability that the next guess will be confirmed, 0 to 1."""
        share = self._sure if sure else self._unsure
        return share.agreed / share.answers

    def observe(self, agreed: bool, *, sure: bool) -> None:
        """The cloud has answered a guess."""
        (self._sure if sure else self._unsure).observe(agreed)
