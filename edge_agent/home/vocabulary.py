"""What people call kinds of things, and which intents and slots an action may have.

Intent and slot names are those of home-assistant-intents (Apache-2.0), so that actions plug into
Home Assistant's `intent/handle` unchanged.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

_SPOKEN: Final = {
    "light": "light lights lamp lamps lighting",
    "fan": "fan fans",
    "switch": "switch plug socket outlet",
    "cover": "blind blinds shade shades curtain curtains shutter shutters garage gate awning door",
    "lock": "lock unlock locked unlocked door",
    "climate": "thermostat heating heater heat ac temperature radiator",
    "media_player": "tv television telly speaker music radio",
    "vacuum": "vacuum hoover vacuuming cleaner clean cleaning dirty",
    "lawn_mower": "mower mowing mow lawn",
    "scene": "scene",
    "script": "script routine",
    "todo": "list",
    "valve": "valve",
    "button": "button",
}

# Spoken word (as `normalise` spells it) → domains it may mean.
DOMAIN_WORDS: Final[dict[str, tuple[str, ...]]] = {
    word: tuple(domain for domain, words in _SPOKEN.items() if word in words.split())
    for word in " ".join(_SPOKEN.values()).split()
}

# Slots an intent may carry, in the order the model writes them.
_TARGET: Final = ("name", "area", "floor", "domain", "device_class")
_TIMER: Final = ("name", "area", "start_hours", "start_minutes", "start_seconds")
_DURATION: Final = ("hours", "minutes", "seconds")

# "All but …" and "everything" are the model's shorthand: `expand.py` writes them out in Home Assistant's.
EVERYTHING: Final = "everything"
EXCEPTIONS: Final = ("except_name", "except_area")
# What "everything" means, in the order it is carried out: nobody means the locks.
SWITCHABLE: Final = ("light", "switch", "fan", "media_player")

INTENT_SLOTS: Final[dict[str, tuple[str, ...]]] = {
    "HassTurnOn": (*_TARGET, *EXCEPTIONS),
    "HassTurnOff": (*_TARGET, *EXCEPTIONS),
    "HassLightSet": (*_TARGET, "brightness", "color", "temperature"),
    "HassSetPosition": (*_TARGET, "position"),
    "HassFanSetSpeed": ("name", "area", "floor", "percentage"),
    "HassClimateSetTemperature": ("name", "area", "floor", "temperature"),
    "HassClimateGetTemperature": ("name", "area"),
    "HassClimateSetFanMode": ("name", "area", "floor", "fan_mode"),
    "HassGetState": (*_TARGET, "state"),
    "HassGetWeather": ("name",),
    "HassGetCurrentTime": (),
    "HassGetCurrentDate": (),
    "HassMediaNext": ("name", "area"),
    "HassMediaPrevious": ("name", "area"),
    "HassMediaPause": ("name", "area"),
    "HassMediaUnpause": ("name", "area"),
    "HassMediaPlayerMute": ("name", "area"),
    "HassMediaPlayerUnmute": ("name", "area"),
    "HassMediaSearchAndPlay": ("name", "area", "media_class", "search_query"),
    "HassSetVolume": ("name", "area", "volume_level"),
    "HassSetVolumeRelative": ("name", "area", "floor", "volume_step"),
    "HassVacuumStart": ("name", "floor"),
    "HassVacuumReturnToBase": ("name",),
    "HassVacuumCleanArea": ("name", "area"),
    "HassLawnMowerStartMowing": ("name",),
    "HassLawnMowerDock": ("name",),
    "HassListAddItem": ("name", "item"),
    "HassListCompleteItem": ("name", "item"),
    "HassListRemoveItem": ("name", "item"),
    "HassShoppingListAddItem": ("item",),
    "HassShoppingListCompleteItem": ("item",),
    "HassStartTimer": ("name", *_DURATION, "conversation_command"),
    "HassCancelTimer": _TIMER,
    "HassCancelAllTimers": ("area",),
    "HassPauseTimer": _TIMER,
    "HassUnpauseTimer": _TIMER,
    "HassTimerStatus": _TIMER,
    "HassIncreaseTimer": (*_TIMER, *_DURATION),
    "HassDecreaseTimer": (*_TIMER, *_DURATION),
    "HassBroadcast": ("message",),
    "HassNevermind": (),
}

# What an action must say to mean anything: of each group at least one slot. Without a target a position
# would be everything's, and "everything" without a kind is the locks' too.
_SOME_TARGET: Final = ("name", "area", "floor", "domain")
REQUIRED_SLOTS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    **dict.fromkeys(("HassTurnOn", "HassTurnOff"), (("name", "domain"),)),
    "HassLightSet": (_SOME_TARGET, ("brightness", "color", "temperature")),
    "HassSetPosition": (_SOME_TARGET, ("position",)),
    "HassFanSetSpeed": (("name", "area", "floor"), ("percentage",)),
    "HassClimateSetTemperature": (("temperature",),),
    "HassClimateSetFanMode": (("fan_mode",),),
    "HassGetState": (_SOME_TARGET,),
    "HassMediaSearchAndPlay": (("search_query",),),
    "HassSetVolume": (("volume_level",),),
    "HassSetVolumeRelative": (("volume_step",),),
    "HassVacuumStart": (("name", "floor"),),
    "HassVacuumReturnToBase": (("name",),),
    "HassVacuumCleanArea": (("area",),),
    **dict.fromkeys(
        ("HassListAddItem", "HassListCompleteItem", "HassListRemoveItem"), (("name",), ("item",))
    ),
    **dict.fromkeys(("HassShoppingListAddItem", "HassShoppingListCompleteItem"), (("item",),)),
    **dict.fromkeys(("HassStartTimer", "HassIncreaseTimer", "HassDecreaseTimer"), (_DURATION,)),
    "HassBroadcast": (("message",),),
}

# A timer's `name` is free text ("pizza"), not a thing of the home.
FREE_NAME_INTENTS: Final = frozenset(intent for intent in INTENT_SLOTS if "Timer" in intent)

# What only tells, and a list, can't be turned on or off.
_ONLY_ASKED: Final = frozenset({"binary_sensor", "person", "sensor", "todo", "weather"})

_DOMAINS: Final = (
    "binary_sensor", "button", "climate", "cover", "fan", "lawn_mower", "light", "lock", "media_player",
    "person", "scene", "script", "sensor", "switch", "todo", "vacuum", "valve", "weather",
)  # fmt: skip

# Which domains a thing must have for an intent to make sense; absent: any.
INTENT_DOMAINS: Final[dict[str, frozenset[str]]] = {
    **dict.fromkeys(("HassTurnOn", "HassTurnOff"), frozenset({*_DOMAINS, EVERYTHING}) - _ONLY_ASKED),
    "HassLightSet": frozenset({"light"}),
    "HassSetPosition": frozenset({"cover", "valve"}),
    "HassFanSetSpeed": frozenset({"fan"}),
    "HassClimateSetTemperature": frozenset({"climate"}),
    "HassClimateGetTemperature": frozenset({"climate", "sensor"}),
    "HassClimateSetFanMode": frozenset({"climate"}),
    "HassGetWeather": frozenset({"weather"}),
    "HassVacuumStart": frozenset({"vacuum"}),
    "HassVacuumReturnToBase": frozenset({"vacuum"}),
    "HassVacuumCleanArea": frozenset({"vacuum"}),
    "HassLawnMowerStartMowing": frozenset({"lawn_mower"}),
    "HassLawnMowerDock": frozenset({"lawn_mower"}),
    "HassListAddItem": frozenset({"todo"}),
    "HassListCompleteItem": frozenset({"todo"}),
    "HassListRemoveItem": frozenset({"todo"}),
    **{
        intent: frozenset({"media_player"})
        for intent in INTENT_SLOTS
        if intent.startswith(("HassMedia", "HassSetVolume"))
    },
}

# Slots whose values are words of Home Assistant.
SLOT_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "domain": (*_DOMAINS, EVERYTHING),
    "device_class": (
        "awning", "blind", "curtain", "door", "garage", "gate", "shade", "shutter", "window",
    ),
    "state": (
        "on", "off", "open", "closed", "opening", "closing", "locked", "unlocked", "home", "not_home",
    ),
    "color": (
        "white", "black", "red", "orange", "yellow", "green", "blue", "purple", "brown", "pink", "turquoise",
    ),
    "fan_mode": ("auto", "on", "off", "low", "medium", "high", "top", "middle", "focus", "diffuse"),
    "media_class": ("artist", "album", "track", "playlist", "podcast", "movie", "tv_show"),
}  # fmt: skip

# How much louder or quieter: a word, or percent.
STEP_SLOT: Final = "volume_step"
STEP_WORDS: Final = ("up", "down")
MAX_STEP: Final = 100

_KELVIN: Final = (1_000.0, 10_000.0)
_DEGREES: Final = (-50.0, 150.0)  # Celsius or Fahrenheit, of a freezer or a sauna
_PERCENT: Final = (0.0, 100.0)
_COUNT: Final = (0.0, 1_000.0)
_UNITS: Final = ("hours", "minutes", "seconds", "start_hours", "start_minutes", "start_seconds")

# Slots that hold numbers, and the range in which they make sense; a light's temperature is Kelvin.
_RANGES: Final[dict[str, tuple[float, float]]] = {
    **dict.fromkeys(("brightness", "position", "percentage", "volume_level"), _PERCENT),
    "temperature": _DEGREES,
    **dict.fromkeys(_UNITS, _COUNT),
}
NUMBER_SLOTS: Final = frozenset(_RANGES)

# Numbers that a request may mean without a digit: "half", "full", "dim", "warm white", "an hour and a half".
IMPLIED_NUMBERS: Final[dict[str, tuple[int, ...]]] = {
    "brightness": (1, 25, 30, 50, 75, 100),
    "temperature": (1900, 2700, 4000, 6500),
    "position": (0, 50, 100),
    "percentage": (0, 50, 100),
    "volume_level": (0, 50, 100),
    **dict.fromkeys(("minutes", "start_minutes", "seconds", "start_seconds"), (1, 15, 30, 45)),
    **dict.fromkeys(("hours", "start_hours"), (1,)),
}


def number_range(intent: str, slot: str) -> tuple[float, float]:
    """The least and the largest number that makes sense for a slot of `NUMBER_SLOTS`."""
    return _KELVIN if (intent, slot) == ("HassLightSet", "temperature") else _RANGES[slot]


def slot_words(intent: str, slot: str) -> tuple[str, ...]:
    """The words that a slot of `SLOT_WORDS` may hold: of domains those that the intent makes sense for."""
    words, domains = SLOT_WORDS[slot], INTENT_DOMAINS.get(intent)
    if slot != "domain" or domains is None:
        return words
    return tuple(word for word in words if word in domains)


def says_enough(intent: str, slots: Collection[str]) -> bool:
    """Whether an action with these slots has all that it needs."""
    return all(any(slot in slots for slot in group) for group in REQUIRED_SLOTS.get(intent, ()))
