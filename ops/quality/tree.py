"""All the ways in which one question was answered, as a tree: each place is computed once.

Early exits leave no holes in any KV cache, so what each rung would say after a text depends on the text
alone, not on who wrote it. Texts under different thresholds share their beginnings; a place that two
policies reach is computed for the first and looked up for the second.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ops.quality.question import Question


@dataclass(slots=True)
class Place:
    """A token to decide, and what each rung says.

    Attributes:
        length: tokens before it, prompt and forced ones included.
        guesses: each exit's token.
        cloud: the cloud's token, from states that went through the codec.
        full: the full model's token, from exact states.
        confidences: (exits, measures, temperatures).
        log_probabilities: (exits, temperatures), of the full model's token.
        after: what follows each token that was kept here.
    """

    length: int
    guesses: tuple[int, ...]
    cloud: int
    full: int
    confidences: npt.NDArray[np.float32]
    log_probabilities: npt.NDArray[np.float32]
    after: dict[int, Branch] = field(default_factory=dict)


@dataclass(slots=True)
class Branch:
    """What follows a kept token: forced ones, then a place to decide, or the end.

    Attributes:
        tokens: the kept token, unless it was a stop token, and those forced after it.
        forced: how many were forced, a forced stop token included.
        place: None at the end.
    """

    tokens: tuple[int, ...]
    forced: int
    place: Place | None


@dataclass(slots=True)
class Tree:
    """One question with its answers so far; `root` is the branch before any decision."""

    question: Question
    root: Branch | None = None
