"""Numbers and free words that requests carry."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from ops.home.names import Names, invented_name, invented_word

_ROUND_PERCENT: Final = (10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 100)
_ROUND_COUNTS: Final = (1, 2, 3, 5, 10, 15, 20, 30, 45)
_DELAYED_VERBS: Final = ("turn on", "turn off", "switch off", "open", "close", "start")
_NUMBER_WORDS: Final = {
    10: "ten", 11: "eleven", 12: "twelve", 13: "thirteen", 14: "fourteen", 15: "fifteen", 16: "sixteen",
    17: "seventeen", 18: "eighteen", 19: "nineteen", 20: "twenty", 30: "thirty", 40: "forty", 50: "fifty",
    60: "sixty", 70: "seventy", 80: "eighty", 90: "ninety",
}  # fmt: skip


def in_words(number: float, rng: random.Random) -> str:
    """A number as a person writes it or, now and then, as a recogniser spells it."""
    words = _NUMBER_WORDS.get(int(number)) if number == int(number) else None
    return words if words and rng.random() < 0.15 else f"{number:g}"


def _percent(rng: random.Random) -> int:
    return rng.choice(_ROUND_PERCENT) if rng.random() < 0.6 else rng.randint(0, 100)


def _degrees(rng: random.Random) -> int | float:
    kind = rng.random()
    if kind < 0.1:
        return rng.randint(12, 28) + 0.5
    return rng.randint(14, 29) if kind < 0.8 else rng.randint(5, 99)


def _kelvin(rng: random.Random) -> int:
    return rng.randrange(1_000, 10_001, 100)


def _count(rng: random.Random) -> int:
    return rng.choice(_ROUND_COUNTS) if rng.random() < 0.5 else rng.randint(1, 99)


# hassil's range lists, with the values that people say rather than all that are allowed.
NUMBERS: Final[dict[str, Callable[[random.Random], int | float]]] = {
    **dict.fromkeys(
        ("brightness", "position", "fan_speed", "volume", "volume_step_up", "volume_step_down"), _percent
    ),
    **dict.fromkeys(("timer_seconds", "timer_minutes", "timer_hours"), _count),
    "temperature": _degrees,
    "color_temperature": _kelvin,
}


def _either(words: tuple[str, ...], names: Names, rng: random.Random) -> str:
    """One of `words`, or an invented one or two: free text must be copied, not recognised."""
    if rng.random() > names.invented:
        return rng.choice(words)
    return invented_name(rng, names)


def _message(rng: random.Random, names: Names) -> str:
    """Something to announce, some of it with a word that only this family knows."""
    words = rng.choice(names.messages).split()
    if rng.random() < names.invented:
        words[rng.randrange(len(words))] = invented_word(rng, names)
    return " ".join(words)


def _delayed_command(rng: random.Random, names: Names) -> str:
    verb, domain = rng.choice(_DELAYED_VERBS), rng.choice(("light", "switch", "cover"))
    return f"{verb} the {rng.choice(names.things[domain])}"


# hassil's wildcard lists.
FREE_TEXT: Final[dict[str, Callable[[random.Random, Names], str]]] = {
    "shopping_list_item": lambda rng, names: _either(names.items, names, rng),
    "todo_list_item": lambda rng, names: _either((*names.items, *names.chores), names, rng),
    "timer_name": lambda rng, names: _either(names.timers, names, rng),
    "search_query": lambda rng, names: _either(names.queries, names, rng),
    "message": _message,
    "zone": lambda rng, names: "home",  # noqa: ARG005 — other zones are not described in a home
    "timer_command": _delayed_command,
}
