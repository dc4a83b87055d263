"""A scripted exit pattern: what the exits say of each token, in the shares of a paper. Sans torch.

A model of random weights has no exits worth the name. Its stages and heads run all the same, for their time;
then their guess is replaced by what the script says of the position. The cloud's tokens are never scripted.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec

# Confidences of a scripted guess, and the threshold between them.
SURE = 1.0
UNSURE = 0.0
THRESHOLD = 0.5


class Pattern(msgspec.Struct, frozen=True):
    """How exits behave on average.

    Attributes:
        request_rate: share of tokens that no exit is sure of.
        first_exit: share of the sure tokens that leave at the first exit; the others at the last one.
        confirmed: share of the last exit's unsure guesses that are the full model's token all the same.
    """

    request_rate: float
    first_exit: float
    confirmed: float


class Script(msgspec.Struct, frozen=True):
    """What the exits say of one text.

    Attributes:
        prompt_tokens: where the text's answer begins.
        text: the full model's answer.
        sure_at: for each of its tokens the exit that is sure of it; None: none is.
        guesses: for each of its tokens what the exits take it for.
    """

    prompt_tokens: int
    text: Sequence[int]
    sure_at: Sequence[int | None]
    guesses: Sequence[int]

    def says(self, position: int, rung: int) -> tuple[int, float]:
        """Token and confidence of the exit after rung `rung`, for the token at `position`.

        Positions past the text may be drafted, though nobody will keep them: any guess will do.
        """
        index = position - self.prompt_tokens
        if not 0 <= index < len(self.text):
            return 0, SURE
        sure_at = self.sure_at[index]
        sure = sure_at is not None and rung >= sure_at
        return self.guesses[index], SURE if sure else UNSURE

    @property
    def request_rate(self) -> float:
        """Share of tokens that no exit is sure of, as it came out."""
        return sum(sure_at is None for sure_at in self.sure_at) / len(self.text)

    @property
    def confirmed(self) -> float:
        """Share of unsure guesses that are right, as it came out; 1 without any."""
        unsure = [index for index, sure_at in enumerate(self.sure_at) if sure_at is None]
        right = sum(self.guesses[index] == self.text[index] for index in unsure)
        return right / len(unsure) if unsure else 1.0


def write_script(
    prompt_tokens: int, text: Sequence[int], pattern: Pattern, *, exits: int, vocab: int, seed: int
) -> Script:
    """A script in a pattern's shares, to the nearest token; which tokens they are is the seed's.

    Args:
        prompt_tokens: length of the prompt.
        text: the full model's answer.
        pattern: the shares.
        exits: how many the model has.
        vocab: size of the vocabulary, for wrong guesses.
        seed: of the choice.
    """
    rng = Random(seed)  # noqa: S311  not for secrets
    order = list(range(len(text)))
    rng.shuffle(order)
    unsure = order[: round(pattern.request_rate * len(text))]
    sure = order[len(unsure) :]
    first = round(pattern.first_exit * len(sure))
    sure_at: list[int | None] = [None] * len(text)
    for place, index in enumerate(sure):
        sure_at[index] = 0 if place < first else exits - 1
    guesses = list(text)
    for index in unsure[round(pattern.confirmed * len(unsure)) :]:
        guesses[index] = (text[index] + 1 + rng.randrange(vocab - 1)) % vocab
    return Script(prompt_tokens, tuple(text), tuple(sure_at), tuple(guesses))
