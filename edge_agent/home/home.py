"""A home as its owner describes it: floors, areas, entities, and where the asking device stands."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from edge_agent.home.words import normalise
from shared.errors import HomeError

_ENTITY_ID = re.compile(r"^[a-z][a-z_]*\.[a-z0-9_]+$")

# A description is read into memory whole; a real home of some hundred entities is a few tens of kB.
_MAX_YAML_BYTES = 2_000_000
_MAX_ENTITIES = 5_000


# PyYAML lets through what Python's own conversions raise: a 31st of February, a number of 5,000 digits, …
_NOT_YAML = (
    yaml.YAMLError,
    ValueError,
    LookupError,
    ArithmeticError,
    AttributeError,
    TypeError,
    RecursionError,
)


class _Loader(yaml.SafeLoader):
    """Plain YAML without aliases: no home needs them, and thirty lines that merge them take hours."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.current_event.start_mark
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not read: write it out", problem_mark=mark
            )
        return super().compose_node(parent, index)


class Floor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A storey; requests may call it by any of its aliases ("upstairs")."""

    name: str
    aliases: tuple[str, ...] = ()


class Area(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A room or an outdoor place, perhaps on a floor."""

    name: str
    aliases: tuple[str, ...] = ()
    floor: str | None = None


class Entity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A thing that can be asked about or acted on; `id` is Home Assistant's `domain.object_id`."""

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    area: str | None = None
    state: str | None = None
    device_class: str | None = None
    attributes: dict[str, Any] = {}

    @property
    def domain(self) -> str:
        """The part of the id before the dot: `light`, `cover`, ..."""
        return self.id.partition(".")[0]


class Home(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The whole home; `area` is where the device that asks stands ("in here")."""

    areas: tuple[Area, ...] = ()
    entities: tuple[Entity, ...] = ()
    floors: tuple[Floor, ...] = ()
    area: str | None = None

    def floor_of(self, area_name: str | None) -> str | None:
        """The floor an area lies on, or None."""
        return next((area.floor for area in self.areas if area.name == area_name), None)


def load_home(path: Path) -> Home:
    """Read and check a home's YAML file.

    Raises:
        HomeError: the file can't be read, is no YAML, or describes no consistent home. Not
            recoverable without editing the file; the message names the place and the fix.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HomeError(f"can't read the home description {path}: {error.strerror or error}") from error
    return parse_home(data, source=str(path))


def parse_home(data: bytes | str, source: str = "home") -> Home:
    """Like `load_home`, from text; `source` is what error messages call it."""
    if len(data) > _MAX_YAML_BYTES:
        raise HomeError(
            f"{source}: larger than {_MAX_YAML_BYTES} bytes; split it or remove what is not a home"
        )
    try:
        raw = yaml.load(data, _Loader)  # noqa: S506  a safe loader
    except _NOT_YAML as error:
        raise HomeError(f"{source}: not valid YAML: {_one_line(error)}") from error
    if not isinstance(raw, dict):
        raise HomeError(f"{source}: expected a mapping with `areas` and `entities` at the top")
    try:
        home = msgspec.convert(_spell_states(raw), Home)
    except msgspec.ValidationError as error:
        raise HomeError(f"{source}: {error}; see docs/home-model.md for the format") from error
    check_home(home, source)
    return home


def check_home(home: Home, source: str = "home") -> None:
    """Refuse a home whose parts contradict each other.

    Raises:
        HomeError: an id is malformed or used twice, or a floor or area is named that is not described.
    """
    if len(home.entities) > _MAX_ENTITIES:
        raise HomeError(f"{source}: {len(home.entities)} entities, at most {_MAX_ENTITIES} are supported")
    _check_unique(source, "floor", (floor.name for floor in home.floors))
    _check_unique(source, "area", (area.name for area in home.areas))
    _check_unique(source, "entity id", (entity.id for entity in home.entities))
    floors = {floor.name for floor in home.floors}
    areas = {area.name for area in home.areas}
    for area in home.areas:
        _check_known(source, f"area {area.name!r}", "floor", area.floor, floors)
    for entity in home.entities:
        _check_entity(source, entity, areas)
    _check_known(source, "the asking device (`area:` at the top)", "area", home.area, areas)


def _check_entity(source: str, entity: Entity, areas: set[str]) -> None:
    if not _ENTITY_ID.match(entity.id):
        raise HomeError(
            f"{source}: entity id {entity.id!r} is not of the form domain.name, such as `light.bedroom_lamp`"
        )
    if not normalise(entity.name):
        raise HomeError(
            f"{source}: entity {entity.id}: name {entity.name!r} has no letters; give it a spoken name"
        )
    _check_known(source, f"entity {entity.id}", "area", entity.area, areas)


def _check_known(source: str, who: str, kind: str, name: str | None, known: set[str]) -> None:
    if name is not None and name not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise HomeError(
            f"{source}: {who} names the {kind} {name!r}, which is not described (known: {listed})"
        )


def _check_unique(source: str, kind: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        key = normalise(name) if kind != "entity id" else name
        if not key:
            raise HomeError(f"{source}: a {kind} has an empty name")
        if key in seen:
            raise HomeError(f"{source}: {kind} {name!r} is described twice; rename or remove one")
        seen.add(key)


def _spell_states(raw: dict[str, Any]) -> dict[str, Any]:
    """Undo YAML 1.1, which reads a bare `state: on` as a boolean and `state: 21` as a number."""
    entities = raw.get("entities")
    if not isinstance(entities, list):
        return raw
    return raw | {"entities": [_spell_state(entity) for entity in entities]}


def _spell_state(entity: object) -> object:
    if not isinstance(entity, dict) or "state" not in entity:
        return entity
    state = entity["state"]
    if isinstance(state, bool):
        return entity | {"state": "on" if state else "off"}
    return entity | {"state": str(state)} if isinstance(state, int | float) else entity


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
