"""What to say about actions: one short English sentence each; questions are answered from states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from edge_agent.home.home import Entity

Action = dict[str, Any]

_DOMAIN_PLURALS: Final = {
    "light": "lights", "fan": "fans", "cover": "covers", "lock": "locks", "switch": "switches",
    "climate": "climate", "media_player": "media players", "person": "people", "valve": "valves",
}  # fmt: skip
_CLASS_PLURALS: Final = {"garage": "garage doors"}
# A named thing is locked, opened or run rather than turned on: Home Assistant has one intent for all.
_VERBS: Final = {
    ("HassTurnOn", "lock"): "Locked", ("HassTurnOff", "lock"): "Unlocked",
    ("HassTurnOn", "cover"): "Opened", ("HassTurnOff", "cover"): "Closed",
    ("HassTurnOn", "valve"): "Opened", ("HassTurnOff", "valve"): "Closed",
    ("HassTurnOn", "scene"): "Activated", ("HassTurnOn", "script"): "Ran",
    ("HassTurnOn", "button"): "Pressed",
}  # fmt: skip
_BARE: Final = frozenset({"scene", "script"})

_MEDIA: Final = {
    "HassMediaNext": "Skipped to the next track", "HassMediaPrevious": "Went back a track",
    "HassMediaPause": "Paused", "HassMediaUnpause": "Resumed", "HassMediaPlayerMute": "Muted",
    "HassMediaPlayerUnmute": "Unmuted",
}  # fmt: skip
_SIMPLE: Final = {
    "HassGetWeather": "Checking the weather.", "HassGetCurrentTime": "Checking the time.",
    "HassGetCurrentDate": "Checking the date.", "HassNevermind": "Never mind.",
    "HassCancelAllTimers": "Cancelled all timers.", "HassLawnMowerStartMowing": "Started mowing.",
    "HassLawnMowerDock": "Sent the mower home.",
}  # fmt: skip
_TIMERS: Final = {
    "HassStartTimer": "Started", "HassCancelTimer": "Cancelled", "HassPauseTimer": "Paused",
    "HassUnpauseTimer": "Resumed", "HassTimerStatus": "Checking", "HassIncreaseTimer": "Extended",
    "HassDecreaseTimer": "Shortened",
}  # fmt: skip
_DURATION: Final = ("hours", "minutes", "seconds")
_LISTS: Final = {
    "HassListAddItem": ("Added", "to"), "HassShoppingListAddItem": ("Added", "to"),
    "HassListCompleteItem": ("Checked off", "on"), "HassShoppingListCompleteItem": ("Checked off", "on"),
    "HassListRemoveItem": ("Removed", "from"),
}  # fmt: skip


def sentence(action: Action, targets: Sequence[Entity]) -> str:
    """One sentence for a checked action.

    Args:
        action: intent and slots, in the home's own spelling.
        targets: the entities it is about; questions are answered from their states.
    """
    intent, slots = action["intent"], action["slots"]
    if intent in _SIMPLE:
        return _SIMPLE[intent]
    if intent in _MEDIA:
        return f"{_MEDIA[intent]}{_on(slots)}."
    if intent in _TIMERS:
        return _timer(intent, slots)
    if intent in _LISTS:
        return _list(intent, slots)
    if intent in ("HassTurnOn", "HassTurnOff"):
        return _turned(intent, slots, targets)
    speak = _SPEAKERS.get(intent)
    return speak(slots, targets) if speak else "Done."


def _list(intent: str, slots: Action) -> str:
    verb, preposition = _LISTS[intent]
    return f"{verb} {slots.get('item', 'it')} {preposition} the {slots.get('name', 'shopping')} list."


def _light(slots: Action, _: Sequence[Entity]) -> str:
    return f"Set {_what(slots)} to {_light_value(slots)}."


def _position(slots: Action, _: Sequence[Entity]) -> str:
    return f"Moved {_what(slots)} to {slots.get('position')} percent."


def _fan(slots: Action, _: Sequence[Entity]) -> str:
    return f"Set {_what({**slots, 'domain': 'fan'})} to {slots.get('percentage')} percent."


def _climate(slots: Action, _: Sequence[Entity]) -> str:
    return f"Set {_what(slots)} to {slots.get('temperature')} degrees."


def _fan_mode(slots: Action, _: Sequence[Entity]) -> str:
    return f"Set the fan mode of {_what(slots)} to {slots.get('fan_mode')}."


def _volume(slots: Action, _: Sequence[Entity]) -> str:
    return f"Set the volume{_on(slots)} to {slots.get('volume_level')} percent."


def _play(slots: Action, _: Sequence[Entity]) -> str:
    return f"Playing {slots.get('search_query', 'that')}{_on(slots)}."


def _start_vacuum(slots: Action, _: Sequence[Entity]) -> str:
    return f"Started {_what(slots)}."


def _dock_vacuum(slots: Action, _: Sequence[Entity]) -> str:
    return f"Sent {_what(slots)} back to its base."


def _clean_area(slots: Action, _: Sequence[Entity]) -> str:
    return f"Cleaning {_the(slots.get('area', 'area'))}."


def _broadcast(slots: Action, _: Sequence[Entity]) -> str:
    return f"Told everyone: {slots.get('message', '')}."


def _turned(intent: str, slots: Action, targets: Sequence[Entity]) -> str:
    domain = targets[0].domain if targets else slots.get("domain", "")
    verb = _VERBS.get((intent, domain), "Turned on" if intent == "HassTurnOn" else "Turned off")
    return f"{verb} {slots['name'] if domain in _BARE and 'name' in slots else _what(slots)}."


def _state(slots: Action, targets: Sequence[Entity]) -> str:
    wanted = slots.get("state")
    if wanted is None:
        return " ".join(
            f"{_capital(_the(entity.name))} is {_spoken_state(entity)}." for entity in targets[:3]
        )
    if "name" in slots and targets:
        entity = targets[0]
        answer = "Yes" if entity.state == wanted else "No"
        return f"{answer}, {_the(entity.name)} is {_spoken_state(entity)}."
    matching = [entity.name for entity in targets if entity.state == wanted]
    kind = _plural(slots) or "of them"
    return (
        f"{len(matching)} {kind} {wanted}: {', '.join(matching[:4])}." if matching else f"No {kind} {wanted}."
    )


def _spoken_state(entity: Entity) -> str:
    if entity.domain == "binary_sensor" and entity.device_class in (None, "door", "window", "opening"):
        return {"on": "open", "off": "closed"}.get(entity.state or "", entity.state or "unknown")
    unit = entity.attributes.get("unit_of_measurement", "")
    return f"{entity.state or 'unknown'} {unit}".strip()


def _temperature(slots: Action, targets: Sequence[Entity]) -> str:
    for entity in targets:
        value = entity.attributes.get("current_temperature")
        if value is not None:
            return f"It is {value} degrees{_on(slots, 'in')}."
    return f"Checking the temperature{_on(slots, 'in')}."


def _timer(intent: str, slots: Action) -> str:
    start = [
        f"{slots[f'start_{unit}s']} {unit}"
        for unit in ("hour", "minute", "second")
        if f"start_{unit}s" in slots
    ]
    label = " ".join(["the", *start, *([str(slots["name"])] if "name" in slots else []), "timer"])
    length = " ".join(_counted(slots[units], units) for units in _DURATION if units in slots)
    if "conversation_command" in slots:
        return f"In {length}: {slots['conversation_command']}."
    joiner = {"HassStartTimer": " for ", "HassIncreaseTimer": " by ", "HassDecreaseTimer": " by "}.get(
        intent, " "
    )
    return f"{_TIMERS[intent]} {label}{joiner + length if length else ''}."


def _counted(number: float, units: str) -> str:
    return f"{number} {units.removesuffix('s') if number == 1 else units}"


def _light_value(slots: Action) -> str:
    parts = [str(slots["color"])] if "color" in slots else []
    parts += [f"{slots['brightness']} percent"] if "brightness" in slots else []
    parts += [f"{slots['temperature']} kelvin"] if "temperature" in slots else []
    return " and ".join(parts) or "that"


def _volume_step(slots: Action, _: Sequence[Entity]) -> str:
    step = slots.get("volume_step")
    if isinstance(step, str):
        return f"Turned the volume{_on(slots)} {step}."
    amount = step or 0
    return f"Turned the volume{_on(slots)} {'up' if amount > 0 else 'down'} by {abs(amount)} percent."


def _what(slots: Action) -> str:
    """Who or what is meant: "the bedroom lamp", "the kitchen lights", "all the lights"."""
    if "name" in slots:
        return _the(slots["name"])
    kind = _plural(slots)
    place = slots.get("area") or slots.get("floor")
    if place:
        return " ".join(part for part in (_the(str(place)), kind) if part)
    return f"all the {kind}" if kind else "everything"


def _plural(slots: Action) -> str:
    device_class = slots.get("device_class")
    if device_class:
        return _CLASS_PLURALS.get(device_class, f"{device_class}s")
    return _DOMAIN_PLURALS.get(slots.get("domain", ""), "")


def _on(slots: Action, preposition: str = "on") -> str:
    if "name" in slots:
        return f" {preposition} {_the(slots['name'])}"
    place = slots.get("area") or slots.get("floor")
    return f" in {_the(str(place))}" if place else ""


def _the(name: str) -> str:
    """A name inside a sentence; capitals that the home's owner meant stay ("the TV", "Emma's lamp")."""
    first = name.partition(" ")[0]
    if "'" in first:
        return name
    lowered = name[:1].lower() + name[1:] if first[1:].islower() or not first[1:] else name
    return f"the {lowered}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_SPEAKERS: Final[dict[str, Callable[[Action, Sequence[Entity]], str]]] = {
    "HassGetState": _state,
    "HassLightSet": _light,
    "HassSetPosition": _position,
    "HassFanSetSpeed": _fan,
    "HassClimateSetTemperature": _climate,
    "HassClimateSetFanMode": _fan_mode,
    "HassClimateGetTemperature": _temperature,
    "HassSetVolume": _volume,
    "HassSetVolumeRelative": _volume_step,
    "HassMediaSearchAndPlay": _play,
    "HassVacuumStart": _start_vacuum,
    "HassVacuumReturnToBase": _dock_vacuum,
    "HassVacuumCleanArea": _clean_area,
    "HassBroadcast": _broadcast,
}
