"""The few parts of a home that a request may be about, found by fuzzy word matching.

A model with a short context can't read a whole home. Names are matched word by word, so that word
order, plurals, typing errors and a recogniser's "bed room" do not matter; the model then reads the
survivors, in the order in which the request mentions them, and decides: the second line that fits is then
the second thing that was asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from edge_agent.home.hearing import Hearing
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
# Kinds of things that are also what is done to others: "lock the door" means a lock at "door".
_KIND_VERBS = frozenset({"lock", "unlock", "clean", "vacuuming", "cleaning", "mow", "mowing", "heat"})
_ALL_HEARD = 0.97  # of a name's weight: slips of the finger are forgiven, missing words are not


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
    """What the model gets to see of the home.

    Attributes:
        here: the asking device's area, or empty.
        mentions: places and things, in the order in which the request mentions them.
        only: things that are the only one of their kind; the model does not see them, but may mean them
            ("there are crumbs everywhere" names no vacuum).
    """

    here: str
    mentions: tuple[Mention, ...]
    only: tuple[Mention, ...] = ()

    @property
    def areas(self) -> tuple[Mention, ...]:
        """The rooms among the mentions."""
        return tuple(mention for mention in self.mentions if mention.kind == "area")

    @property
    def floors(self) -> tuple[Mention, ...]:
        """The floors among the mentions."""
        return tuple(mention for mention in self.mentions if mention.kind == "floor")

    @property
    def entities(self) -> tuple[Mention, ...]:
        """The things among the mentions."""
        return tuple(mention for mention in self.mentions if mention.kind not in ("area", "floor"))


class _Phrase(msgspec.Struct, frozen=True):
    """One spoken form of one thing: indices into the vocabulary and their weights (sum to one)."""

    mention: Mention
    words: tuple[int, ...]
    weights: tuple[float, ...]


class _Found(NamedTuple):
    """A phrase that the request may mean, and how well it fits."""

    score: float
    phrase: _Phrase
    kind_place: int | None = None  # of the word that names its kind, if it was found by that alone


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
        hearing = Hearing(normalise(request).split()[:MAX_REQUEST_WORDS], self._vocabulary)
        things = [*_scored(self._entities, hearing, _ENTITY_SHARE), *self._sole(hearing.words)]
        found = [
            *_best(_scored(self._areas, hearing, _PLACE_SHARE), MAX_AREAS),
            *_best(_scored(self._floors, hearing, _PLACE_SHARE), MAX_FLOORS),
            *_best(things, MAX_ENTITIES),
        ]
        found.sort(key=lambda each: (_place(each, hearing), -round(each.score, 4)))
        return Shortlist(self._here, tuple(each.phrase.mention for each in found), self._only)

    def _sole(self, words: Sequence[str]) -> Iterator[_Found]:
        """Things called by their kind alone, where the home has but one or two of the kind."""
        for place, word in sorted(enumerate(words), key=lambda each: each[1] in _KIND_VERBS):
            for domain in DOMAIN_WORDS.get(word, ()):
                for phrase in self._soles.get(domain, ()):
                    yield _Found(_SOLE_SCORE, phrase, place)

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


def _scored(phrases: list[_Phrase], hearing: Hearing, share: float) -> list[_Found]:
    """Phrases of which at least `share` was heard; longer matches win over shorter ones."""
    heard, found = hearing.surely, []
    for phrase in phrases:
        score = sum(heard[word] * weight for word, weight in zip(phrase.words, phrase.weights, strict=True))
        if score >= share:
            in_full = score >= _ALL_HEARD
            mention = msgspec.structs.replace(phrase.mention, in_full=in_full)
            found.append(
                _Found(score + 0.01 * len(phrase.words), msgspec.structs.replace(phrase, mention=mention))
            )
    return found


def _best(found: list[_Found], limit: int) -> list[_Found]:
    """The `limit` best, each name once; ties keep a fixed order so that training and run time agree."""
    names: dict[tuple[str, str], _Found] = {}
    for each in sorted(found, key=_rank):
        names.setdefault((each.phrase.mention.kind, each.phrase.mention.spelled), each)
    return list(names.values())[:limit]


def _rank(found: _Found) -> tuple[float, str, str]:
    mention = found.phrase.mention
    return -round(found.score, 4), mention.spelled, mention.kind


def _place(found: _Found, hearing: Hearing) -> int:
    """Where in the request it is mentioned."""
    if found.kind_place is not None:
        return found.kind_place
    return hearing.place_of(found.phrase.words, found.phrase.weights)
