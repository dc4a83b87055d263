"""What is asked while things fail: random words, answered greedily, drawn, with early exits, or exactly."""

from __future__ import annotations

from random import Random
from typing import Final

from edge_agent.request import Request
from ops.faults.tiny_model import VOCAB, word

# The same few prompts in every run: their right answers are decoded once.
_PROMPTS: Final = 12
_FIRST_ORDINARY: Final = 3
# Low enough that edge and cloud often draw different tokens, so that a wrong one shows.
_TEMPERATURE: Final = 0.5
# Of the random model's exits, some are that sure of a token and most are not.
_LAX: Final = 0.3
KINDS: Final = ("greedy", "seeded", "early exits", "exact")


def question(number: int, tokens: int, words: int | None = None) -> Request:
    """The question of this number; numbers that differ by a multiple of `KINDS` differ in the prompt alone.

    Args:
        number: from 0 on.
        tokens: length of the answer.
        words: length of the prompt; None: from 8 to 24.
    """
    rng = Random(f"question {number // len(KINDS) % _PROMPTS}")  # noqa: S311  not for secrets
    length = words or rng.randint(8, 24)
    prompt = " ".join(word(rng.randrange(_FIRST_ORDINARY, VOCAB)) for _ in range(length))
    match KINDS[number % len(KINDS)]:
        case "greedy":
            return Request(prompt, max_new_tokens=tokens, threshold=1.0)
        case "seeded":
            seed = rng.randrange(1 << 32)
            return Request(
                prompt, max_new_tokens=tokens, threshold=1.0, temperature=_TEMPERATURE, top_p=0.95, seed=seed
            )
        case "exact":
            return Request(prompt, max_new_tokens=tokens, mode="exact")
    return Request(prompt, max_new_tokens=tokens, threshold=_LAX)
