"""The model's text → actions that this home can carry out, or a refusal.

The model proposes, the home disposes: whatever the text says, only intents and slots of Home
Assistant's language and names of this home come out of here.
"""

from __future__ import annotations

import re

import msgspec

from edge_agent.home.expand import expand, is_shorthand
from edge_agent.home.home import Entity, Home
from edge_agent.home.refusal import REASONS, Action, Refusal
from edge_agent.home.vocabulary import (
    FREE_NAME_INTENTS,
    INTENT_DOMAINS,
    INTENT_SLOTS,
    MAX_STEP,
    NUMBER_SLOTS,
    SLOT_WORDS,
    STEP_SLOT,
    STEP_WORDS,
    number_range,
    says_enough,
    slot_words,
)
from edge_agent.home.words import normalise

MAX_ACTIONS = 8
# An answer is a few dozen tokens; longer text is a model that lost its way.
MAX_OUTPUT_CHARS = 4_000


class ActionReader:
    """Reads and checks model output for one home.

    Args:
        home: whose names and things an action may use.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._areas = {normalise(area.name): area.name for area in home.areas}
        self._floors = {normalise(floor.name): floor.name for floor in home.floors}
        self._entities: dict[str, list[Entity]] = {}
        for entity in home.entities:
            self._entities.setdefault(normalise(entity.name), []).append(entity)

    def read(self, request: str, output: str) -> list[Action]:
        """The actions that `output` asks for, each once, in this home's own spelling.

        Args:
            request: what the person said; free text (a shopping item) gets its spelling from here.
            output: what the model wrote.

        Raises:
            Refusal: the model refused, or what it wrote is no valid action here.
        """
        raw = _load(output)
        items = raw if isinstance(raw, list) else [raw]
        if not 1 <= len(items) <= MAX_ACTIONS:
            raise Refusal("not_understood")
        actions = [action for item in items for action in self._actions(request, item)]
        return [action for index, action in enumerate(actions) if action not in actions[:index]]

    def targets(self, action: Action) -> list[Entity]:
        """The entities an action is about: by name, or by area, floor, domain and device class."""
        slots = action["slots"]
        if action["intent"] in FREE_NAME_INTENTS:
            return []
        allowed = INTENT_DOMAINS.get(action["intent"])
        named = self._entities.get(normalise(slots["name"]), []) if "name" in slots else self._home.entities
        return [entity for entity in named if self._fits(entity, slots, allowed)]

    def _actions(self, request: str, item: object) -> list[Action]:
        """What one item of the output means: one action, or several where it says "all but"."""
        action = self._action(request, item)
        return expand(action, self._home) if is_shorthand(action) else [action]

    def _action(self, request: str, item: object) -> Action:
        if not isinstance(item, dict):
            raise Refusal("not_understood")
        if "error" in item:
            raise Refusal(item["error"] if item["error"] in list(REASONS) else "not_understood")
        intent, slots = item.get("intent"), item.get("slots")
        if (
            set(item) != {"intent", "slots"}
            or intent not in list(INTENT_SLOTS)
            or not isinstance(slots, dict)
        ):
            raise Refusal("not_understood")
        checked = {slot: self._value(request, intent, slot, value) for slot, value in slots.items()}
        if not says_enough(intent, checked):
            raise Refusal("not_understood")
        action = {"intent": intent, "slots": checked}
        if _acts_on_things(action) and not is_shorthand(action) and not self.targets(action):
            raise Refusal("no_such_entity")
        return action

    def _value(self, request: str, intent: str, slot: str, value: object) -> str | int | float:
        if (
            slot not in INTENT_SLOTS[intent]
            or isinstance(value, bool)
            or not isinstance(value, str | int | float)
        ):
            raise Refusal("not_understood")
        if slot in NUMBER_SLOTS:
            return _number(value, *number_range(intent, slot))
        if slot == STEP_SLOT:
            return _step(value)
        if not isinstance(value, str):
            raise Refusal("not_understood")
        if slot in SLOT_WORDS:
            return _word(value.strip(), slot_words(intent, slot))
        return self._name(request, intent, slot, value.strip())

    def _name(self, request: str, intent: str, slot: str, value: str) -> str:
        key = normalise(value)
        if slot in ("area", "except_area"):
            return _known(self._areas, key, "no_such_area")
        if slot == "floor":
            return _known(self._floors, key, "no_such_area")
        if slot in ("name", "except_name") and intent not in FREE_NAME_INTENTS:
            if key not in self._entities:
                raise Refusal("no_such_entity")
            return self._entities[key][0].name
        return _as_said(request, value)

    def _fits(self, entity: Entity, slots: Action, allowed: frozenset[str] | None) -> bool:
        return (
            (allowed is None or entity.domain in allowed)
            and slots.get("area") in (None, entity.area)
            and slots.get("floor") in (None, self._home.floor_of(entity.area))
            and slots.get("domain") in (None, entity.domain)
            and (slots.get("device_class") in (None, entity.device_class) or entity.device_class is None)
        )


def _acts_on_things(action: Action) -> bool:
    """Whether an action needs an entity to exist: it names one, or a kind of them, or a room's."""
    if action["intent"] in FREE_NAME_INTENTS or action["intent"] == "HassVacuumCleanArea":
        return False
    return any(slot in action["slots"] for slot in ("name", "domain", "area", "floor"))


def _load(output: str) -> object:
    if len(output) > MAX_OUTPUT_CHARS:
        raise Refusal("not_understood")
    try:
        return msgspec.json.decode(output)  # stricter than json: no half surrogates, no NaN
    except (ValueError, RecursionError):
        raise Refusal("not_understood") from None


def _number(value: str | float, low: float, high: float) -> int | float:
    if isinstance(value, str) or not low <= value <= high:
        raise Refusal("not_understood")
    return value


def _step(value: str | float) -> str | int | float:
    return _word(value, STEP_WORDS) if isinstance(value, str) else _number(value, -MAX_STEP, MAX_STEP)


def _word(value: str, words: tuple[str, ...]) -> str:
    if value not in words:
        raise Refusal("not_understood")
    return value


def _known(names: dict[str, str], key: str, refusal: str) -> str:
    if key not in names:
        raise Refusal(refusal)
    return names[key]


def _as_said(request: str, value: str) -> str:
    """`value` with the person's own capitals, where the request holds it word for word."""
    pattern = r"\W+".join(map(re.escape, value.split()))
    found = re.search(rf"\b{pattern}\b", request, re.IGNORECASE) if pattern else None
    return found.group(0) if found else value
