"""Words that generated homes are named with; training and held-out homes share none of their own."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec
import yaml


class Names(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One side's words: what areas, people and things are called, and what is said around requests."""

    invented: float  # share of names that no list holds
    before: tuple[str, ...]  # politeness in front of a command
    before_question: tuple[str, ...]  # in front of anything
    after: tuple[str, ...]
    areas: tuple[str, ...]
    people: tuple[str, ...]
    adjectives: tuple[str, ...]
    things: dict[str, tuple[str, ...]]
    items: tuple[str, ...]  # to buy
    chores: tuple[str, ...]  # to do
    timers: tuple[str, ...]
    queries: tuple[str, ...]
    messages: tuple[str, ...]


_BOTH: Final = msgspec.convert(
    yaml.safe_load(Path(__file__).with_name("names.yaml").read_text(encoding="utf-8")), dict[str, Names]
)
TRAIN: Final = _BOTH["train"]
HELD_OUT: Final = _BOTH["held_out"]

_ONSETS: Final = (
    "b", "br", "c", "ch", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "kl", "l", "m", "n", "p", "pl",
    "qu", "r", "s", "sk", "st", "t", "tr", "v", "w", "z",
)  # fmt: skip
_NUCLEI: Final = ("a", "e", "i", "o", "u", "ai", "ee", "ou", "oa", "ia")
_CODAS: Final = ("", "", "", "n", "r", "l", "x", "st", "m", "k", "sh", "ck", "nd", "p")


class _Words(NamedTuple):
    """What names are invented from.

    Attributes:
        known: words of one side's names.
        long: those of them that can be halved; halves of real words make new ones that look like words.
    """

    known: tuple[str, ...]
    long: tuple[str, ...]

    @classmethod
    def of(cls, words: Iterable[str]) -> Self:
        known = tuple(sorted(words))
        return cls(known, tuple(word for word in known if len(word) > 4))


def _said_in(names: Names) -> frozenset[str]:
    lists = (names.areas, names.items, names.queries, *names.things.values())
    words = (word for name in chain.from_iterable(lists) for word in name.split())
    return frozenset(word.lower() for word in words if word.isalpha() and len(word) > 2)


_TRAIN_WORDS: Final = _Words.of(_said_in(TRAIN))
_HELD_OUT_WORDS: Final = _Words.of(_said_in(HELD_OUT) - _said_in(TRAIN))


def _words_for(names: Names) -> _Words:
    return _HELD_OUT_WORDS if names is HELD_OUT else _TRAIN_WORDS


def invented_name(rng: random.Random, names: Names) -> str:
    """A name of one to three words that no list holds: new words, or one side's own in new company."""
    if rng.random() < 0.45:
        words = _words_for(names).known
        return " ".join(rng.choice(words) for _ in range(rng.choice((2, 2, 2, 3))))
    return " ".join(invented_word(rng, names) for _ in range(rng.choice((1, 1, 2))))


def invented_word(rng: random.Random, names: Names) -> str:
    """A word of no list, so that the model learns to copy names and not to know them by heart."""
    if rng.random() < 0.5:
        words = _words_for(names).long
        first, second = rng.choice(words), rng.choice(words)
        return first[: rng.randint(2, len(first) - 2)] + second[rng.randint(2, len(second) - 2) :]
    return "".join(
        rng.choice(_ONSETS) + rng.choice(_NUCLEI) + rng.choice(_CODAS)
        for _ in range(rng.choice((1, 2, 2, 3)))
    )
