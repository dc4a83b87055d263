"""The few parts of a home that a request may be about, found by fuzzy word matching.

A model with a short context can't read a whole home. Names are matched word by word, so that word
order, plurals, typing errors and a recogniser's "bed room" do not matter; the model then reads the
survivors and decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec
import numpy as np
from rapidfuzz import fuzz, process

from edge_agent.home.home import Entity, Home
from edge_agent.home.vocabulary import DOMAIN_WORDS
from edge_agent.home.words import normalise

MAX_ENTITIES = 6
MAX_AREAS = 4
MAX_FLOORS = 2
# Longer requests are cut: matching cost grows with words × the home's vocabulary.
MAX_REQUEST_WORDS = 60

# Words that name a kind of thing tell less than words that name one thing.
_GENERIC_WEIGHT = 0.4
_GENERIC_WORDS = frozenset(DOMAIN_WORDS) - {"garage"} | {
    "room",
    "floor",
    "the",
    "of",
    "in",
    "on",
    "my",
    "sensor",
    "level",
}

_ENTITY_SHARE = 0.5  # of a name's weight that the request must mention
_PLACE_SHARE = 0.75  # places are said in full: "dining room" must not bring up "living room"
_SOLE_SCORE = 0.55  # "start the vacuum" in a home with one vacuum, whatever its name
_SOLE_COUNT = 2
_SIMILAR = 82.0  # rapidfuzz ratio: "lights"/"light" 91, "livng"/"living" 91, but "night"/"light" 80
_ALL_HEARD = 0.97  # of a name's weight: slips of the finger are forgiven, missing words are not
_SHORT_WORD = 4  # letters; one changed letter makes these another word: "all"/"hall", "tell"/"telly"


class Mention(msgspec.Struct, frozen=True):
    """A name as it stands in the home, spelled for the model.

    Attributes:
        kind: a domain, "area" or "floor".
        spelled: the name.
        alias: what the request called it instead, if it did.
        in_full: every word of the name, or of the alias, was said.
    """

    kind: str
    spelled: str
    alias: str = ""
    in_full: bool = False


class Shortlist(msgspec.Struct, frozen=True):
    """What the model gets to see of the home, best match first.

    Attributes:
        here: the asking device's area, or empty.
        areas: places. floors: likewise. entities: things.
        only: things that are the only one of their kind; the model does not see them, but may mean them
            ("there are crumbs everywhere" names no vacuum).
    """

    here: str
    areas: tuple[Mention, ...]
    floors: tuple[Mention, ...]
    entities: tuple[Mention, ...]
    only: tuple[Mention, ...] = ()


class _Phrase(msgspec.Struct, frozen=True):
    """One spoken form of one thing: indices into the vocabulary and their weights (sum to one)."""

    mention: Mention
    words: tuple[int, ...]
    weights: tuple[float, ...]


class Shortlister:
    """Matches requests against one home; built once, then about a millisecond per request.

    Args:
        home: the home to search.
    """

    def __init__(self, home: Home) -> None:
        self._here = normalise(home.area) if home.area else ""
        self._index: dict[str, int] = {}
        self._areas = [
            phrase for area in home.areas for phrase in self._phrases("area", area.name, area.aliases)
        ]
        self._floors = [
            phrase for floor in home.floors for phrase in self._phrases("floor", floor.name, floor.aliases)
        ]
        self._entities = [phrase for entity in home.entities for phrase in self._entity_phrases(entity)]
        self._soles = _sole_entities(home.entities)
        self._only = tuple(things[0].mention for things in self._soles.values() if len(things) == 1)
        self._vocabulary = list(self._index)

    def pick(self, request: str) -> Shortlist:
        """The home's parts that `request` (any spelling) may mean."""
        words = normalise(request).split()[:MAX_REQUEST_WORDS]
        heard = self._heard(words)
        return Shortlist(
            here=self._here,
            areas=_best(_scored(self._areas, heard, _PLACE_SHARE), MAX_AREAS),
            floors=_best(_scored(self._floors, heard, _PLACE_SHARE), MAX_FLOORS),
            entities=_best(
                [*_scored(self._entities, heard, _ENTITY_SHARE), *self._sole(words)], MAX_ENTITIES
            ),
            only=self._only,
        )

    def _heard(self, words: list[str]) -> list[float]:
        """How sure we are, 0 to 1, that each word of the vocabulary was said."""
        if not words or not self._vocabulary:
            return [0.0] * len(self._vocabulary)
        pairs = (first + second for first, second in pairwise(words))
        spoken = [word for word in (*words, *pairs) if len(word) > _SHORT_WORD] or words
        scores = process.cdist(
            spoken, self._vocabulary, scorer=fuzz.ratio, score_cutoff=_SIMILAR, dtype=np.float32
        )
        said = frozenset(words)
        best: list[float] = (scores.max(axis=0) / 100.0).tolist()
        return [
            1.0 if word in said or word + "s" in said else value if len(word) > _SHORT_WORD else 0.0
            for word, value in zip(self._vocabulary, best, strict=True)
        ]

    def _sole(self, words: list[str]) -> Iterable[tuple[float, _Phrase]]:
        """Things called by their kind alone, where the home has but one or two of the kind."""
        domains = {domain for word in words for domain in DOMAIN_WORDS.get(word, ())}
        return [(_SOLE_SCORE, phrase) for domain in sorted(domains) for phrase in self._soles.get(domain, ())]

    def _entity_phrases(self, entity: Entity) -> list[_Phrase]:
        # Said in its own room, "the ceiling light" is enough for "living room ceiling light".
        implied = (
            frozenset(self._here.split()) if entity.area and normalise(entity.area) == self._here else ()
        )
        return self._phrases(entity.domain, entity.name, entity.aliases, implied)

    def _phrases(
        self, kind: str, name: str, aliases: Sequence[str], implied: Iterable[str] = ()
    ) -> list[_Phrase]:
        spelled = normalise(name)
        forms = [(spelled, "")] + [(alias, alias) for alias in map(normalise, aliases) if alias]
        return [
            self._phrase(Mention(kind, spelled, alias), form.split(), frozenset(implied))
            for form, alias in forms
        ]

    def _phrase(self, mention: Mention, words: list[str], implied: frozenset[str]) -> _Phrase:
        weights = [_GENERIC_WEIGHT if word in _GENERIC_WORDS or word in implied else 1.0 for word in words]
        total = sum(weights) or 1.0
        indices = tuple(self._index.setdefault(word, len(self._index)) for word in words)
        return _Phrase(mention, indices, tuple(weight / total for weight in weights))


def _sole_entities(entities: Sequence[Entity]) -> dict[str, list[_Phrase]]:
    counts = Counter(entity.domain for entity in entities)
    soles: dict[str, list[_Phrase]] = {}
    for entity in entities:
        if counts[entity.domain] <= _SOLE_COUNT:
            mention = Mention(entity.domain, normalise(entity.name))
            soles.setdefault(entity.domain, []).append(_Phrase(mention, (), ()))
    return soles


def _scored(phrases: list[_Phrase], heard: list[float], share: float) -> list[tuple[float, _Phrase]]:
    """Phrases of which at least `share` was heard; longer matches win over shorter ones."""
    scored = []
    for phrase in phrases:
        score = sum(heard[word] * weight for word, weight in zip(phrase.words, phrase.weights, strict=True))
        if score >= share:
            in_full = score >= _ALL_HEARD
            mention = msgspec.structs.replace(phrase.mention, in_full=in_full)
            scored.append(
                (score + 0.01 * len(phrase.words), msgspec.structs.replace(phrase, mention=mention))
            )
    return scored


def _best(scored: list[tuple[float, _Phrase]], limit: int) -> tuple[Mention, ...]:
    """The `limit` best, each name once; ties keep a fixed order so that training and run time agree."""
    ranked = sorted(
        scored, key=lambda item: (-round(item[0], 4), item[1].mention.spelled, item[1].mention.kind)
    )
    mentions: dict[tuple[str, str], Mention] = {}
    for _, phrase in ranked:
        mentions.setdefault((phrase.mention.kind, phrase.mention.spelled), phrase.mention)
    return tuple(mentions.values())[:limit]
