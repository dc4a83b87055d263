"""A fair listener: which of a home's things could a sentence be about?

Templates know what they mean; a person who hears only the words may not. Sentences that a fair
listener could take two ways make bad lessons and unfair questions, so they are not asked.
"""

from __future__ import annotations

from typing import Final

from edge_agent.home.home import Entity, Home
from edge_agent.home.vocabulary import DOMAIN_WORDS
from edge_agent.home.words import normalise

_PLACE_BEFORE: Final = tuple(
    f"{word}{article}" for word in ("in", "of", "at") for article in ("", " the", " my", " our")
)
_KINDS_AFTER: Final = ("lights", "blinds", "curtains", "shutters", "thermostat", "temperature")


def forms(entity: Entity) -> list[str]:
    """The names an entity answers to, spelled for the model."""
    return [normalise(entity.name), *map(normalise, entity.aliases)]


class Listener:
    """Knows a home's names.

    Args:
        home: the home.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._forms = [(form, entity) for entity in home.entities for form in forms(entity)]

    def named(self, text: str) -> list[tuple[str, Entity]]:
        """Things whose full name `text` contains, with that name."""
        padded = f" {normalise(text)} "
        return [(form, entity) for form, entity in self._forms if f" {form} " in padded]

    def is_ambiguous(self, text: str, meant: Entity | None, domain: str | None) -> bool:
        """Whether `text` also names something else.

        Args:
            text: the sentence.
            meant: the thing it is about; None if it is about a place's or the whole home's things.
            domain: of those things, if known.
        """
        longest = max(map(len, forms(meant))) if meant else 0
        for form, entity in self.named(text):
            if meant is None and (entity.domain == domain or form not in DOMAIN_WORDS):
                return True
            if meant is not None and normalise(entity.name) != normalise(meant.name) and len(form) > longest:
                return True
        return False

    def resembles(self, spoken: str) -> bool:
        """Whether `spoken` could be taken for something that is there."""
        words = set(spoken.split())
        for form, entity in self._forms:
            area = set(normalise(entity.area or "").split())
            if words <= set(form.split()) | area or set(form.split()) <= words:
                return True
        return any(normalise(area.name) == spoken for area in self._home.areas)


def place_is_plain(text: str, spoken: str) -> bool:
    """Whether the words around `spoken` say that it is a place: "in the …", "… lights"."""
    padded = f" {normalise(text)} "
    return any(f" {word} {spoken} " in padded for word in _PLACE_BEFORE) or any(
        f" {spoken} {kind} " in padded for kind in _KINDS_AFTER
    )
