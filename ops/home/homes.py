"""Random homes: a few floors, areas and things, named the ways people name them."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from edge_agent.home.home import Area, Entity, Floor, Home
from edge_agent.home.words import normalise
from ops.home.names import Names, invented_name

# (floor, aliases) from the ground up; single-floor homes have none.
_FLOOR_SETS: Final = (
    (("Ground floor", ("downstairs",)), ("First floor", ("upstairs",))),
    (("Downstairs", ()), ("Upstairs", ())),
    (("Ground floor", ()), ("First floor", ()), ("Top floor", ("upstairs",))),
    (
        ("Basement level", ("cellar level",)),
        ("Ground floor", ("downstairs", "main floor")),
        ("Upper floor", ("upstairs",)),
    ),
    (("Main floor", ("downstairs",)), ("Second floor", ("upstairs", "top floor"))),
    (("Lower level", ("downstairs",)), ("Upper level", ("upstairs",))),
)

# How many things of a domain a home has: at least, at most.
_COUNTS: Final[dict[str, tuple[int, int]]] = {
    "light": (3, 9), "switch": (1, 5), "fan": (0, 3), "cover": (1, 6), "lock": (0, 3), "climate": (0, 3),
    "media_player": (1, 4), "vacuum": (0, 2), "lawn_mower": (0, 1), "scene": (0, 4), "script": (0, 3),
    "sensor": (0, 3), "binary_sensor": (0, 3), "todo": (0, 3), "weather": (0, 2), "valve": (0, 1),
    "button": (0, 2), "person": (0, 3),
}  # fmt: skip

_PLACELESS: Final = frozenset({"scene", "script", "todo", "weather", "person", "lawn_mower", "vacuum"})

_STATES: Final[dict[str, tuple[str, ...]]] = {
    "light": ("on", "off"), "switch": ("on", "off"), "fan": ("on", "off"), "cover": ("open", "closed"),
    "lock": ("locked", "unlocked"), "media_player": ("playing", "paused", "off"), "climate": ("heat", "off"),
    "binary_sensor": ("on", "off"), "vacuum": ("docked", "cleaning"), "valve": ("open", "closed"),
}  # fmt: skip

_COVER_CLASSES: Final = (
    ("garage", "garage"), ("gate", "gate"), ("curtain", "curtain"), ("drapes", "curtain"),
    ("shutter", "shutter"),
    ("shade", "shade"), ("awning", "awning"), ("window", "window"), ("skylight", "window"), ("door", "door"),
)  # fmt: skip


def random_home(rng: random.Random, names: Names) -> Home:
    """A home of some 15 to 40 things from `names`."""
    floors = _floors(rng)
    areas = _areas(rng, names, floors)
    entities: dict[str, Entity] = {}
    for domain, (low, high) in _COUNTS.items():
        for _ in range(rng.randint(low, high)):
            entity = _entity(rng, names, domain, areas)
            entities.setdefault(entity.id, entity)
    here = rng.choice(areas).name if rng.random() < 0.9 else None
    return Home(areas=tuple(areas), entities=tuple(entities.values()), floors=tuple(floors), area=here)


def _floors(rng: random.Random) -> list[Floor]:
    if rng.random() < 0.25:
        return []
    return [Floor(name, aliases) for name, aliases in rng.choice(_FLOOR_SETS)]


def _areas(rng: random.Random, names: Names, floors: list[Floor]) -> list[Area]:
    taken = {normalise(floor.name) for floor in floors} | {
        alias for floor in floors for alias in floor.aliases
    }
    areas: dict[str, Area] = {}
    for _ in range(rng.randint(4, 10)):
        name = _area_name(rng, names)
        if normalise(name) in taken:
            continue
        floor = rng.choice(floors).name if floors else None
        alias = (_area_name(rng, names),) if rng.random() < 0.06 else ()
        taken |= {normalise(name), *map(normalise, alias)}
        areas[name] = Area(name, alias, floor)
    return list(areas.values())


def _area_name(rng: random.Random, names: Names) -> str:
    if rng.random() < 0.12:
        return f"{rng.choice(names.people)}'s {rng.choice(('room', 'bedroom', 'office', 'study'))}"
    if rng.random() < names.invented:
        name = invented_name(rng, names).capitalize()
        return (
            f"{name} {rng.choice(('room', 'hall', 'corner', 'suite', 'house'))}"
            if rng.random() < 0.3
            else name
        )
    return rng.choice(names.areas)


def _entity(rng: random.Random, names: Names, domain: str, areas: list[Area]) -> Entity:
    area = None if domain in _PLACELESS else rng.choice(areas).name
    thing = rng.choice(names.things[domain])
    name = _entity_name(rng, names, domain, thing, area)
    slug = normalise(name).replace(" ", "_").replace("'", "")
    other = rng.choice(names.things[domain])
    aliases = (other,) if rng.random() < 0.08 and other != thing and domain != "person" else ()
    state = rng.choice(_STATES.get(domain, ("unknown",)))
    return Entity(f"{domain}.{slug}", name, aliases, area, state, _device_class(domain, thing))


def _entity_name(rng: random.Random, names: Names, domain: str, thing: str, area: str | None) -> str:
    if rng.random() < names.invented * 0.8:
        thing = _invented_thing(rng, names, thing)
    kind = rng.random()
    if area and kind < 0.45:
        return _case(rng, thing if normalise(thing).startswith(normalise(area)) else f"{area} {thing}")
    if domain not in _PLACELESS and kind < 0.58:
        return _case(rng, f"{rng.choice(names.adjectives)} {thing}")
    if domain not in _PLACELESS and kind < 0.66:
        return _case(rng, f"{rng.choice(names.people)}'s {thing}")
    return _case(rng, thing)


def _invented_thing(rng: random.Random, names: Names, thing: str) -> str:
    """Like "zorvik lamp", or "Zorvik" alone, or "zorvik bellows": brands, pets' names, family words."""
    name = invented_name(rng, names)
    return f"{name} {thing.rpartition(' ')[2]}" if rng.random() < 0.5 else name


def _case(rng: random.Random, name: str) -> str:
    return name.title() if rng.random() < 0.3 else name[:1].upper() + name[1:]


def _device_class(domain: str, thing: str) -> str | None:
    if domain == "binary_sensor":
        return next((kind for kind in ("window", "door") if kind in thing), None)
    if domain != "cover":
        return None
    return next((kind for word, kind in _COVER_CLASSES if word in thing), "blind")


def without(home: Home, entity: Entity) -> Home:
    """The same home after `entity` was given away."""
    return msgspec.structs.replace(
        home, entities=tuple(other for other in home.entities if other.id != entity.id)
    )
