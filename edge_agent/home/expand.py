"""Writes out what Home Assistant's language has no word for: "everything" and "all but".

The model writes `domain: everything`, `except_name` and `except_area`; here they become one plain action
per kind of thing, per other thing, or per other room.
"""

from __future__ import annotations

from edge_agent.home.home import Entity, Home
from edge_agent.home.refusal import Action, Refusal
from edge_agent.home.vocabulary import EVERYTHING, EXCEPTIONS, SWITCHABLE


def is_shorthand(action: Action) -> bool:
    """Whether `action` has to be written out."""
    slots = action["slots"]
    return slots.get("domain") == EVERYTHING or any(slot in slots for slot in EXCEPTIONS)


def expand(action: Action, home: Home) -> list[Action]:
    """The plain actions that `action` stands for, in the home's own order.

    Raises:
        Refusal: nothing is left to act on.
    """
    intent, slots = action["intent"], action["slots"]
    things = [entity for entity in home.entities if _fits(entity, slots, home)]
    kept = [entity for entity in things if not _is_excepted(entity, slots)]
    if not kept:
        raise Refusal("no_such_entity")
    if "except_name" in slots:
        targets = [_named(entity, things) for entity in kept]
    elif "except_area" in slots:
        targets = [_placed(entity, slots) for entity in kept]
    else:
        place = {slot: slots[slot] for slot in ("area", "floor") if slot in slots}
        kinds = {entity.domain for entity in kept}
        targets = [{**place, "domain": domain} for domain in SWITCHABLE if domain in kinds]
    once = [target for index, target in enumerate(targets) if target not in targets[:index]]
    return [{"intent": intent, "slots": target} for target in once]


def _fits(entity: Entity, slots: Action, home: Home) -> bool:
    domain = slots.get("domain")
    return (
        (entity.domain in SWITCHABLE if domain in (None, EVERYTHING) else entity.domain == domain)
        and slots.get("area") in (None, entity.area)
        and slots.get("floor") in (None, home.floor_of(entity.area))
        and slots.get("device_class") in (None, entity.device_class)
    )


def _is_excepted(entity: Entity, slots: Action) -> bool:
    area = slots.get("except_area")
    return entity.name == slots.get("except_name") or (area is not None and entity.area == area)


def _named(entity: Entity, things: list[Entity]) -> Action:
    """By name; with the room where another thing is called the same."""
    namesakes = sum(other.name == entity.name for other in things)
    room = {"area": entity.area} if namesakes > 1 and entity.area else {}
    return {"name": entity.name, **room}


def _placed(entity: Entity, slots: Action) -> Action:
    """By room and kind; a thing that stands nowhere by its name."""
    if entity.area is None:
        return {"name": entity.name}
    kind = {"device_class": slots["device_class"]} if "device_class" in slots else {}
    return {"area": entity.area, "domain": entity.domain, **kind}
