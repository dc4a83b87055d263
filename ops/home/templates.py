"""Sentence templates, the package's and ours, grouped in blocks and split into training and held-out."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml
from hassil.expression import (
    Alternative,
    Expression,
    ListReference,
    Permutation,
    RuleReference,
    Sentence,
    Sequence,
    TextChunk,
)
from hassil.intents import IntentData, Intents, TextSlotList
from hassil.parse_expression import parse_sentence
from home_assistant_intents import get_intents

_PHRASES: Final = Path(__file__).parent / "phrases"
_CHATTER: Final = _PHRASES / "chatter.yaml"
# One template in so many is kept from training, as long as its block keeps another.
_HELD_OUT_EVERY: Final = 7
_OPTIONAL: Final = re.compile(r"\[[^\[\]]*\]")
_CARRIES_NOTHING: Final = re.compile(r"<the>|\b(?:the|a|an|my|our|please)\b")
_NO_CHOICE: Final = re.compile(r"\([\s|]*\)")
# hassil's greetings are chatter to us; the other two need what our homes do not describe.
_SKIPPED_INTENTS: Final = frozenset({"HassRespond"})

Fill = Callable[[ListReference], str]


class Template:
    """One sentence template; parsed when it is first used, since there are tens of thousands.

    Args:
        text: in hassil's language.
        rules: expansion rules that it may name.
    """

    def __init__(self, text: str, rules: dict[str, Sentence]) -> None:
        self.text = text
        self._rules = rules

    @cached_property
    def expression(self) -> Expression:
        """What it says."""
        return parse_sentence(self.text).expression

    @cached_property
    def lists(self) -> frozenset[str]:
        """Which lists it needs filled."""
        return frozenset(Sequence(items=[self.expression]).list_names(self._rules))


class Block(msgspec.Struct, frozen=True):
    """Templates that mean the same: one intent, the same fixed slots, the same context."""

    intent: str
    category: str
    slots: dict[str, Any]
    domains: tuple[str, ...]
    here: bool
    ours: bool
    train: tuple[Template, ...]
    held_out: tuple[Template, ...]

    def templates(self, held_out: bool) -> tuple[Template, ...]:
        """This block's templates of one side."""
        return self.held_out if held_out else self.train


class Grammar:
    """All blocks, with the package's lists and expansion rules to expand them."""

    def __init__(self) -> None:
        raw = get_intents("en")
        if raw is None:  # the package without its English data is a broken installation
            raise RuntimeError("home-assistant-intents has no English data; reinstall it")
        self._intents = Intents.from_dict(raw)
        blocks = [*self._package_blocks(), *self._our_blocks()]
        chatter, held_out = _sides([self._template(text) for text in _read(_CHATTER)["sentences"]])
        known = {bare_wording(item.text) for block in blocks for item in block.train}
        known |= {bare_wording(item.text) for item in chatter}
        self.blocks = [
            msgspec.structs.replace(block, held_out=_unlike(block.held_out, known)) for block in blocks
        ]
        self._chatter = (chatter, _unlike(held_out, known))

    def say(self, template: Template, rng: random.Random, fill: Fill) -> str:
        """One random sentence of `template`; `fill` gives the words for each list."""
        return "".join(self._walk(template.expression, rng, fill))

    def chatter(self, rng: random.Random, held_out: bool) -> str:
        """One random sentence that is no command."""
        template = rng.choice(self.chatter_templates(held_out))
        return self.say(template, rng, lambda reference: reference.list_name)

    def chatter_templates(self, held_out: bool) -> tuple[Template, ...]:
        """One side's templates of what is no command."""
        return self._chatter[held_out]

    def knows(self, list_name: str) -> bool:
        """Whether the package has a list of that name."""
        return list_name in self._intents.slot_lists

    def list_values(self, name: str) -> list[tuple[Expression, Any]]:
        """A text list's (spoken expression, slot value) pairs."""
        values = self._intents.slot_lists[name]
        if not isinstance(values, TextSlotList):
            raise TypeError(f"the package's list {{{name}}} is no list of texts any more")
        return [(value.text_in, value.value_out) for value in values.values]

    def spoken(self, expression: Expression, rng: random.Random) -> str:
        """One random spelling of a list value."""
        return "".join(self._walk(expression, rng, lambda reference: reference.list_name))

    def _walk(self, node: Expression, rng: random.Random, fill: Fill) -> Iterator[str]:
        match node:
            case TextChunk():
                yield node.text
            case ListReference():
                yield fill(node)
            case RuleReference():
                yield from self._walk(self._intents.expansion_rules[node.rule_name].expression, rng, fill)
            case Alternative():
                yield from self._walk(rng.choice(node.items), rng, fill)
            case Permutation():
                for item in rng.sample(node.items, len(node.items)):
                    yield " "
                    yield from self._walk(item, rng, fill)
                yield " "
            case Sequence():
                for item in node.items:
                    yield from self._walk(item, rng, fill)
            case _:
                raise TypeError(f"hassil has a new kind of expression: {type(node).__name__}")

    def _package_blocks(self) -> Iterator[Block]:
        for name, intent in self._intents.intents.items():
            if name in _SKIPPED_INTENTS:
                continue
            for data in intent.data:
                yield self._package_block(name, data)

    def _package_block(self, intent: str, data: IntentData) -> Block:
        templates = [self._template(text) for text in data.sentence_texts]
        train, held_out = _sides(templates)
        domain = (data.requires_context or {}).get("domain", ())
        slots = dict(data.slots)
        lists = frozenset().union(*(item.lists for item in templates))
        return Block(
            intent=intent,
            category=_category(intent, slots, lists),
            slots=slots,
            domains=(domain,) if isinstance(domain, str) else tuple(domain),
            here="area" in (data.requires_context or {}),
            ours=False,
            train=train,
            held_out=held_out,
        )

    def _our_blocks(self) -> Iterator[Block]:
        files = sorted(path for path in _PHRASES.glob("*.yaml") if path != _CHATTER)
        for entry in (entry for path in files for entry in _read(path)):
            train, held_out = _sides([self._template(text) for text in entry["sentences"]])
            yield Block(
                intent=entry["intent"],
                category=entry["category"],
                slots=entry.get("slots", {}),
                domains=tuple(entry.get("domain", ())),
                here=entry.get("here", False),
                ours=True,
                train=train,
                held_out=held_out,
            )

    def _template(self, text: str) -> Template:
        return Template(text, self._intents.expansion_rules)


def _read(path: Path) -> Any:
    # libyaml, where PyYAML was built with it, takes a tenth of the time.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506  both are safe


def _sides(templates: list[Template]) -> tuple[tuple[Template, ...], tuple[Template, ...]]:
    """Training's templates and the exam's; the wording alone decides, so that additions move nothing."""
    train: list[Template] = []
    held_out: list[Template] = []
    for item in templates:
        (train if zlib.crc32(item.text.encode()) % _HELD_OUT_EVERY else held_out).append(item)
    return (tuple(train), tuple(held_out)) if train else (tuple(held_out), ())


def bare_wording(text: str) -> str:
    """A template without what carries no meaning: optional parts, articles, "please".

    `[please] start <the> {name}` and `please start {name}` are both `start {name}`.
    """
    wording, before = text.lower(), ""
    while wording != before:  # optional parts hold others
        before, wording = wording, _OPTIONAL.sub(" ", wording)
    return " ".join(_NO_CHOICE.sub(" ", _CARRIES_NOTHING.sub(" ", wording)).split())


def _unlike(templates: tuple[Template, ...], known: Collection[str]) -> tuple[Template, ...]:
    """Those that training does not know in other clothes."""
    return tuple(item for item in templates if bare_wording(item.text) not in known)


_CATEGORIES: Final = {
    "HassBroadcast": "broadcast",
    "HassClimateGetTemperature": "climate_get",
    "HassClimateSetFanMode": "fan_speed",
    "HassClimateSetTemperature": "climate_set",
    "HassFanSetSpeed": "fan_speed",
    "HassGetState": "state",
    "HassSetPosition": "cover_position",
    "HassStartTimer": "timer",
    **dict.fromkeys(
        ("HassGetWeather", "HassGetCurrentTime", "HassGetCurrentDate", "HassNevermind"), "weather_time"
    ),
    **dict.fromkeys(("HassSetVolume", "HassSetVolumeRelative"), "volume"),
    **dict.fromkeys(("HassMediaPlayerMute", "HassMediaPlayerUnmute"), "volume"),
    **dict.fromkeys(("HassVacuumStart", "HassVacuumReturnToBase", "HassVacuumCleanArea"), "vacuum"),
}
_FAMILIES: Final = {"Timer": "timer_control", "List": "list", "Media": "media", "Mower": "mower"}


def _category(intent: str, slots: dict[str, Any], lists: frozenset[str]) -> str:
    if intent in _CATEGORIES:
        return _CATEGORIES[intent]
    if intent == "HassLightSet":
        return "brightness" if lists & {"brightness", "brightness_level"} else "color"
    if intent in ("HassTurnOn", "HassTurnOff"):
        return _on_off_category(slots, lists)
    return next((category for word, category in _FAMILIES.items() if word in intent), "other")


def _on_off_category(slots: dict[str, Any], lists: frozenset[str]) -> str:
    if slots.get("domain") == "cover":
        return "cover"
    if "name" in lists:
        return "on_off_name"
    if "floor" in lists:
        return "on_off_floor"
    return "on_off_area" if "area" in lists else "on_off_all"
