"""Fills a template's lists from a home and keeps note of what the words mean."""

from __future__ import annotations

import random
from typing import Any, Final

import msgspec
from hassil.expression import ListReference

from edge_agent.home.home import Area, Entity, Home
from edge_agent.home.vocabulary import DOMAIN_WORDS, EVERYTHING, SWITCHABLE
from edge_agent.home.words import normalise
from ops.home.listener import forms
from ops.home.names import Names
from ops.home.templates import Block, Grammar, Template
from ops.home.values import FREE_TEXT, NUMBERS, in_words

# What the only thing of a domain is called for short.
KIND_WORDS: Final = {
    "vacuum": ("vacuum", "hoover", "vacuum cleaner", "robot vacuum"),
    "lock": ("door", "lock", "door"),
    "lawn_mower": ("mower", "lawn mower", "lawnmower", "mower"),
}


class Reject(Exception):  # noqa: N818 — the dice fell badly; throw again
    """This home and template do not go together."""


class Draft(msgspec.Struct):
    """A sentence and what it means.

    Attributes:
        text: the words.
        slots: the intent's slots.
        entity: the thing it is about, if one.
        free_text: whether it carries words that only the speaker knows.
        names_first: whether it begins with a list's words: a name, a place, a number.
    """

    text: str
    slots: dict[str, Any]
    entity: Entity | None = None
    free_text: bool = False
    names_first: bool = False


class Filler:
    """Writes sentences about one home.

    Args:
        grammar: to expand templates.
        rng: the only source of chance.
        names: words for free text.
        home: what sentences are about.
    """

    def __init__(self, grammar: Grammar, rng: random.Random, names: Names, home: Home) -> None:
        self._grammar, self._rng, self._names, self._home = grammar, rng, names, home

    def draft(self, block: Block, template: Template, given: dict[str, str] | None = None) -> Draft:
        """One sentence of `template`; `given` prescribes the words of some lists.

        Raises:
            Reject: the home lacks what the template speaks of.
        """
        draft = Draft("", dict(block.slots))
        if block.here and "area" not in template.lists:
            draft.slots["area"] = self._here()
        filling = _Filling(self, block, template, given or {}, draft)
        if block.ours and block.domains and not template.lists & {"name", "other_name", "other_area"}:
            filling.sole_entity()
        draft.text = self._grammar.say(template, self._rng, filling.words).strip()
        draft.names_first = bool(filling.first) and draft.text.startswith(filling.first)
        if any(words not in draft.text for words in (given or {}).values()):
            raise Reject  # an alternative of the template did without them
        return draft

    def _here(self) -> str:
        if self._home.area is None:
            raise Reject
        return self._home.area

    def owned(self, domains: tuple[str, ...]) -> list[Entity]:
        """The home's things of `domains`."""
        return [entity for entity in self._home.entities if entity.domain in domains]

    def name_of(self, entity: Entity, *, with_place: bool) -> str:
        """How somebody in this home calls `entity`: by name, by alias, or, in its room, for short."""
        name, area = normalise(entity.name), normalise(entity.area or "")
        if with_place and area and area in name:
            raise Reject
        if area and name.startswith(area + " "):
            short = name.removeprefix(area + " ")
            share = 0.35 if self._home.area == entity.area else 0.12 if self._is_unique(short) else 0.0
            if self._rng.random() < share:
                return self._short(short)
        if entity.aliases and self._rng.random() < 0.5:
            return normalise(self._rng.choice(entity.aliases))
        return name

    def _is_unique(self, short: str) -> bool:
        """Whether one thing alone in the home ends in `short`: then it needs no room."""
        endings = [form for entity in self._home.entities for form in forms(entity) if form.endswith(short)]
        return len(endings) == 1

    def _short(self, short: str) -> str:
        if short in DOMAIN_WORDS or any(short in forms(other) for other in self._home.entities):
            raise Reject
        return short

    def area_of(self, entity: Entity) -> Area:
        """Where `entity` is."""
        return self.area_named(entity.area)

    def area_named(self, name: str | None) -> Area:
        """The area of that name."""
        found = next((area for area in self._home.areas if area.name == name), None)
        if found is None:
            raise Reject
        return found

    def things_in(self, slots: dict[str, Any]) -> list[Entity]:
        """The things of the slots' kind and place, as far as these are filled."""
        domain = slots.get("domain")
        return [
            entity
            for entity in self._home.entities
            if (entity.domain in SWITCHABLE if domain in (None, EVERYTHING) else entity.domain == domain)
            and slots.get("area") in (None, entity.area)
            and slots.get("floor") in (None, self._home.floor_of(entity.area))
        ]

    def choose(self, names: list[str]) -> str:
        """One of `names`."""
        return self._rng.choice(names)

    def floor_of(self, entity: Entity) -> tuple[str, str]:
        """The floor of a thing and how it is called."""
        name = self._home.floor_of(entity.area)
        found = next((floor for floor in self._home.floors if floor.name == name), None)
        if found is None:
            raise Reject
        return found.name, self.called(found.name, found.aliases, 0.6)

    def area_with(self, domain: str | None) -> Area:
        """An area, mostly one that has things of `domain`: a model must not depend on it."""
        fitting = {entity.area for entity in self._home.entities if domain in (None, entity.domain)}
        areas = [area for area in self._home.areas if area.name in fitting]
        return self._rng.choice(areas if areas and self._rng.random() < 0.8 else list(self._home.areas))

    def called(self, name: str, aliases: tuple[str, ...], share: float) -> str:
        """A place's name, or with the given chance one of its aliases."""
        alias = aliases and self._rng.random() < share
        return normalise(self._rng.choice(aliases) if alias else name)

    def pick(self, things: list[Entity]) -> Entity:
        """One of `things`."""
        if not things:
            raise Reject
        return self._rng.choice(things)

    def floor(self) -> tuple[str, str]:
        """A floor's name and how it is called."""
        if not self._home.floors:
            raise Reject
        floor = self._rng.choice(self._home.floors)
        return floor.name, self.called(floor.name, floor.aliases, 0.6)

    def value(self, name: str, draft: Draft) -> tuple[Any, str]:
        """A slot value of list `name` and its words."""
        if name in FREE_TEXT:
            draft.free_text = True
            spoken = normalise(FREE_TEXT[name](self._rng, self._names))
            return spoken, spoken
        if name in NUMBERS:
            number = NUMBERS[name](self._rng)
            return -number if name == "volume_step_down" else number, in_words(number, self._rng)
        if name == "kind":
            raise Reject
        expression, value = self._rng.choice(self._grammar.list_values(name))
        return value, self._grammar.spoken(expression, self._rng)

    def kind_word(self, domain: str) -> str:
        """What the only thing of `domain` is called."""
        return self._rng.choice(KIND_WORDS[domain])


class _Filling:
    """The state of one sentence while its lists are being filled, in the order they are spoken."""

    def __init__(
        self, filler: Filler, block: Block, template: Template, given: dict[str, str], draft: Draft
    ) -> None:
        self._filler, self._block, self._template = filler, block, template
        self._given, self._draft = given, draft
        self.first = ""  # of the lists' words to be spoken

    def sole_entity(self) -> None:
        """Mean the only thing of its kind, as in "start the vacuum"."""
        if "kind" in self._given:
            return
        owned = self._filler.owned(self._block.domains)
        if len(owned) != 1:
            raise Reject
        self._draft.entity = owned[0]
        self._draft.slots["name"] = owned[0].name

    def words(self, reference: ListReference) -> str:
        """The words for one list, its slot noted."""
        spoken = self._words(reference)
        self.first = self.first or spoken
        return spoken

    def _words(self, reference: ListReference) -> str:
        name, slot = reference.list_name, reference.slot_name
        if name in self._given:
            return self._prescribed(name, slot)
        match name:
            case "name":
                return self._entity(slot)
            case "area":
                return self._area(slot)
            case "floor":
                self._draft.slots[slot], spoken = self._floor()
                return self._floor_phrase(spoken)
            case "other_name":
                return self._other_name()
            case "other_area":
                return self._other_area()
            case "kind":
                return self._filler.kind_word(self._block.domains[0])
        self._draft.slots[slot], spoken = self._filler.value(name, self._draft)
        return spoken

    def _prescribed(self, name: str, slot: str) -> str:
        spoken = self._given[name]
        if name in ("name", "area", "floor"):
            self._draft.slots[slot] = spoken
        return self._floor_phrase(spoken) if name == "floor" else spoken

    def _entity(self, slot: str) -> str:
        entity = self._draft.entity or self._filler.pick(self._filler.owned(self._block.domains))
        self._draft.entity = entity
        self._draft.slots[slot] = entity.name
        return self._filler.name_of(entity, with_place=bool({"area", "floor"} & self._template.lists))

    def _area(self, slot: str) -> str:
        if "name" in self._template.lists and self._draft.entity is None:  # the thing must be in it
            placed = [entity for entity in self._filler.owned(self._block.domains) if entity.area]
            self._draft.entity = self._filler.pick(placed)
        entity = self._draft.entity
        area = (
            self._filler.area_of(entity)
            if entity
            else self._filler.area_with(self._block.slots.get("domain"))
        )
        self._draft.slots[slot] = area.name
        return self._filler.called(area.name, area.aliases, 0.5)

    def _floor(self) -> tuple[str, str]:
        if "name" in self._template.lists:
            raise Reject
        entity = self._draft.entity
        return self._filler.floor() if entity is None else self._filler.floor_of(entity)

    def _other_name(self) -> str:
        """The thing that is left alone; there must be more of its kind in the place."""
        things = self._filler.things_in(self._draft.slots)
        if len(things) < 2:
            raise Reject
        entity = self._filler.pick(things)
        self._draft.entity = entity
        self._draft.slots["except_name"] = entity.name
        return self._filler.name_of(entity, with_place=bool({"area", "floor"} & self._template.lists))

    def _other_area(self) -> str:
        """The room that is left alone; another must have such things too."""
        areas = {entity.area for entity in self._filler.things_in(self._draft.slots) if entity.area}
        if len(areas) < 2:
            raise Reject
        area = self._filler.area_named(self._filler.choose(sorted(areas)))
        self._draft.slots["except_area"] = area.name
        return self._filler.called(area.name, area.aliases, 0.5)

    def _floor_phrase(self, spoken: str) -> str:
        """Our own templates take a floor as an adverb: "lights upstairs", "lights on the top floor"."""
        adverb = spoken in ("upstairs", "downstairs") or not self._block.ours
        return spoken if adverb else f"on the {spoken}"
