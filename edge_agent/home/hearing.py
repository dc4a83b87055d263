"""Which words of a home were said in a request, how surely, and where.

Spelling is forgiving: plurals, slips of the finger, and what a recogniser took apart ("bed room") are
heard as the word that the home has.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

_SIMILAR = 82.0  # rapidfuzz ratio: "lights"/"light" 91, "livng"/"living" 91, but "night"/"light" 80
_SHORT_WORD = 4  # letters; one changed letter makes these another word: "all"/"hall", "tell"/"telly"


class Hearing:
    """One request, heard with a home's words in mind.

    Args:
        words: the request's, as `normalise` spells them.
        vocabulary: the home's words; "index" below is a place in it.

    Attributes:
        surely: by index, how sure we are, 0 to 1, that the word was said.
    """

    def __init__(self, words: Sequence[str], vocabulary: Sequence[str]) -> None:
        self.words, self._vocabulary = words, vocabulary
        spoken = [*enumerate(words), *enumerate(first + second for first, second in pairwise(words))]
        spoken = [(place, word) for place, word in spoken if len(word) > _SHORT_WORD] or spoken
        self._places = [place for place, _ in spoken]
        self._likeness = _likeness([word for _, word in spoken], vocabulary)
        self.surely = self._surely()

    def where(self, index: int) -> dict[int, float]:
        """The places at which the word is heard, and how surely; likenesses count where it was not said."""
        word = self._vocabulary[index]
        exactly = [place for place, said in enumerate(self.words) if said in (word, word + "s")]
        if exactly or len(word) <= _SHORT_WORD:
            return dict.fromkeys(exactly, 1.0)
        column = self._likeness[:, index].tolist()
        return {place: like for place, like in zip(self._places, column, strict=True) if like}

    def place_of(self, indices: Sequence[int], weights: Sequence[float]) -> int:
        """Where a name of several words is mentioned: the first place at which most of it is said.

        Without its most telling words a name is said nowhere: in "the lamp in the bedroom" the bedroom
        lamp stands at "bedroom". What is not mentioned stands behind the last word.
        """
        heard = [self.where(index) for index in indices]

        def said_at(start: int) -> float:
            near = range(start, start + len(heard))
            return sum(
                weight * max(at.get(place, 0.0) for place in near)
                for at, weight in zip(heard, weights, strict=True)
            )

        starts = sorted({place for at in heard for place in at})
        return max(starts, key=lambda start: round(said_at(start), 4), default=len(self.words))

    def _surely(self) -> list[float]:
        said = frozenset(self.words)
        best: list[float] = self._likeness.max(axis=0, initial=0.0).tolist()
        return [
            1.0 if word in said or word + "s" in said else value if len(word) > _SHORT_WORD else 0.0
            for word, value in zip(self._vocabulary, best, strict=True)
        ]


def _likeness(spoken: Sequence[str], vocabulary: Sequence[str]) -> NDArray[np.floating]:
    """How alike words are, 0 for unlike ones to 1; `(spoken, vocabulary)`."""
    if not spoken or not vocabulary:
        return np.zeros((len(spoken), len(vocabulary)), np.float32)
    scores = process.cdist(spoken, vocabulary, scorer=fuzz.ratio, score_cutoff=_SIMILAR, dtype=np.float32)
    return scores / np.float32(100.0)
