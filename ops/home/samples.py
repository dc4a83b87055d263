"""Draws labelled requests: a home, what somebody says in it, and the right action."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, Final

import msgspec

from edge_agent.home.actions import ActionReader
from edge_agent.home.home import Home
from edge_agent.home.prompt import answer_text, prompt_text
from edge_agent.home.refusal import Refusal
from edge_agent.home.shortlist import Shortlister
from edge_agent.home.words import normalise
from ops.home.filler import KIND_WORDS, Draft, Filler, Reject
from ops.home.homes import random_home
from ops.home.joining import is_of_one, may_follow, may_lead
from ops.home.listener import Listener, place_is_plain
from ops.home.names import HELD_OUT, TRAIN, Names, invented_word
from ops.home.noise import garble
from ops.home.politeness import Politeness
from ops.home.sample import Action, Sample, is_answerable
from ops.home.templates import Block, Grammar, Template

# How often each kind of request is asked; the common ones of a home most.
WEIGHTS: Final[dict[str, float]] = {
    "on_off_name": 13, "on_off_area": 9, "on_off_floor": 4, "on_off_all": 2.5, "light_indirect": 4,
    "brightness": 7, "color": 4, "climate_set": 6, "climate_get": 2.5, "cover": 7, "cover_position": 3,
    "lock": 5, "media": 5.5, "volume": 5, "scene_script": 4, "button": 1, "vacuum": 5, "mower": 1,
    "state": 8.5, "timer": 6, "timer_control": 3, "list": 6, "weather_time": 4, "broadcast": 1.5,
    "fan_speed": 2, "multi": 11, "missing_entity": 6, "missing_area": 4, "chatter": 7, "climate_indirect": 4,
    "everything": 2.5, "except": 4,
}  # fmt: skip

# Requests that demos ask; held back word for word so that a demo is no recital.
_DEMO_REQUESTS: Final = frozenset({
    "turn on the kitchen lights", "dim the bedroom lamp to 30 percent", "it's too dark in here",
    "close all the blinds upstairs", "set the living room to 21 degrees", "lock the front door",
    "is the garage door open", "turn off the tv and the hallway light", "start the vacuum", "open the sauna",
    "tell me a joke",
})  # fmt: skip

_JOINERS: Final = (" and ", " and ", " and ", " then ", " and then ", " and also ", " plus ")
_JOINABLE: Final = (
    "on_off_name", "on_off_area", "on_off_floor", "brightness", "climate_set", "cover", "lock", "media",
    "scene_script", "color", "vacuum", "timer",
)  # fmt: skip
_COORDINATED: Final = ("on_off_name", "on_off_area", "cover", "lock", "brightness")
_TRIES: Final = 12  # to find a part that may follow another
_LACKING_THINGS: Final = (
    "on_off_name", "on_off_name", "cover", "lock", "brightness", "climate_set", "state", "vacuum", "media",
)  # fmt: skip
_LACKING_PLACES: Final = (
    "on_off_area", "light_indirect", "brightness", "climate_set", "cover", "climate_get", "on_off_floor",
)  # fmt: skip

_REPORTED: Final = {"open": "on", "closed": "off", "on": "on", "off": "off"}

# Training asks a home so many things before the next one is built, which costs as much as a dozen samples.
_REQUESTS_PER_HOME: Final = 12
_MAX_REQUEST_CHARS: Final = 140


class _Said(msgspec.Struct):
    """Words and what they mean.

    Attributes:
        text: the words.
        action: what they mean.
        plain: noise may touch the words; none of them is the speaker's own.
        names_first: they begin with a name.
    """

    text: str
    action: Action | list[Action]
    plain: bool = True
    names_first: bool = False


class SampleMaker:
    """Draws samples from the training or the held-out side; deterministic for a seed.

    Args:
        grammar: the templates.
        seed: everything random follows from it.
        held_out: draw names *and* phrasings that training never sees.
        per_home: requests that share a home; 1 makes them independent of each other.
    """

    def __init__(
        self,
        grammar: Grammar,
        seed: int,
        *,
        held_out: bool = False,
        per_home: int = _REQUESTS_PER_HOME,
    ) -> None:
        self._grammar = grammar
        self._rng = random.Random(seed)  # noqa: S311 — not for secrets
        self._held_out = held_out
        self._per_home = per_home
        self._names: Names = HELD_OUT if held_out else TRAIN
        self._politeness = Politeness(self._names)
        self._blocks: dict[str, list[Block]] = {}
        for block in grammar.blocks:
            if block.templates(held_out):
                self._blocks.setdefault(block.category, []).append(block)
        self._special: dict[str, Callable[[], _Said]] = {
            "chatter": self._chatter,
            "multi": self._multi,
            "missing_entity": self._missing_entity,
            "missing_area": self._missing_area,
        }
        self._enter(Home())
        self._uses_left = 0

    def draw(self, category: str | None = None) -> Sample:
        """One sample, of `category` or by `WEIGHTS`."""
        chosen = category or self._rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        while True:
            self._move_on()
            try:
                return self._sample(chosen)
            except Reject:
                self._uses_left -= 1

    def _move_on(self) -> None:
        self._uses_left -= 1
        if self._uses_left <= 0:
            self._enter(random_home(self._rng, self._names))
            self._uses_left = self._per_home

    def _enter(self, home: Home) -> None:
        self._home = home
        self._shortlister = Shortlister(home)
        self._listener = Listener(home)
        self._reader = ActionReader(home)
        self._filler = Filler(self._grammar, self._rng, self._names, home)

    def _sample(self, category: str) -> Sample:
        said = self._special[category]() if category in self._special else self._single(category)
        request = self._politeness.around(
            said.text, self._rng, names_first=said.names_first, open_end=_ends_freely(said)
        )
        if said.plain and self._rng.random() < 0.12:
            request = garble(request, self._rng)
        request = " ".join(request.split())
        if normalise(request) in _DEMO_REQUESTS or len(request) > _MAX_REQUEST_CHARS:
            raise Reject
        prompt = prompt_text(request, self._shortlister.pick(request))
        sample = Sample(category, self._home, request, said.action, prompt)
        # In the exam a shortlist that fails counts as a failure; in training it teaches invention.
        # What a room lacks is refused by the home, whatever the model says: no question for an exam.
        if not (self._is_doable(sample) if self._held_out else is_answerable(sample)):
            raise Reject
        return sample

    def _is_doable(self, sample: Sample) -> bool:
        """Whether the home can carry out what the sample's action says, or it is a refusal by itself."""
        if isinstance(sample.action, dict) and "error" in sample.action:
            return True
        try:
            return bool(self._reader.read(sample.request, sample.answer))
        except Refusal:
            return False

    def _chatter(self) -> _Said:
        text = self._grammar.chatter(self._rng, self._held_out)
        if self._listener.named(text):  # "good night" is a command where a script is called so
            raise Reject
        return _Said(text, {"error": "not_a_command"})

    def _single(self, category: str) -> _Said:
        block, template = self._pick(category)
        draft = self._filler.draft(block, template)
        domain = block.slots.get("domain")
        if not (draft.free_text and draft.entity is None) and self._listener.is_ambiguous(
            draft.text, draft.entity, domain
        ):
            raise Reject
        slots = self._reported(draft.slots) if block.intent == "HassGetState" else draft.slots
        return _said(draft, {"intent": block.intent, "slots": slots})

    def _reported(self, slots: dict[str, Any]) -> dict[str, Any]:
        """Windows and doors that a home can't move but only watch are binary sensors: on is open."""
        kind, state = slots.get("device_class"), slots.get("state")
        if kind not in ("window", "door") or state not in _REPORTED:
            return slots
        owners = {entity.domain for entity in self._home.entities if entity.device_class == kind}
        if owners == {"binary_sensor"}:
            return {**slots, "domain": "binary_sensor", "state": _REPORTED[state]}
        if slots["domain"] not in owners:
            raise Reject
        return slots

    def _multi(self) -> _Said:
        if self._rng.random() < 0.45:
            return self._coordinated()
        first = self._part()
        if not may_lead(first.text):
            raise Reject
        count = 2 if self._rng.random() < 0.15 else 1
        parts = [first, *(self._later_part(first) for _ in range(count))]
        actions = [part.action for part in parts if isinstance(part.action, dict)]
        if _repeats(actions):
            raise Reject
        text = self._rng.choice(_JOINERS).join(part.text for part in parts)
        return _Said(text, actions, all(part.plain for part in parts), first.names_first)

    def _part(self) -> _Said:
        """One wish of several."""
        part = self._single(self._rng.choice(_JOINABLE))
        # What to play may hold an "and" of its own, and what to do later may end where the next wish does.
        if isinstance(part.action, dict) and {"search_query", "conversation_command"} & set(
            part.action["slots"]
        ):
            raise Reject
        return part

    def _later_part(self, first: _Said) -> _Said:
        """A wish that may follow another: a command, or a thing and its state after the same."""
        for _ in range(_TRIES):
            try:
                part = self._part()
            except Reject:
                continue
            if may_follow(part.text, first.text, name_first=part.names_first and first.names_first):
                return part
        raise Reject

    def _coordinated(self) -> _Said:
        """One verb, two things: "turn off the tv and the hallway light"."""
        block, template = self._pick(self._rng.choice(_COORDINATED))
        slot = next((slot for slot in ("name", "area") if slot in template.lists), None)
        if slot is None or {"name", "area"} <= template.lists:
            raise Reject
        first, second = self._filler.draft(block, template), self._filler.draft(block, template)
        named = {draft.slots.get(slot) for draft in (first, second)}
        if len(named) < 2 or None in named:  # an alternative of the template may do without
            raise Reject
        article = self._rng.choice(("the ", "", "the ")) if slot == "name" else ""
        both = f"{_spoken(first, slot)} and {article}{_spoken(second, slot)}"
        draft = self._filler.draft(block, template, {slot: both})
        if is_of_one(draft.text.replace(both, "")):
            raise Reject
        slots = [{**draft.slots, slot: each.slots[slot]} for each in (first, second)]
        actions = [{"intent": block.intent, "slots": each} for each in slots]
        if _repeats(actions):
            raise Reject
        return _said(draft, actions)

    def _missing_entity(self) -> _Said:
        block, template = self._pick(self._rng.choice(_LACKING_THINGS))
        domain = self._rng.choice(block.domains) if block.domains else None
        if domain is None or domain not in self._names.things or {"area", "floor"} & template.lists:
            raise Reject
        if "name" not in template.lists:
            return self._missing_kind(block, template, domain)
        spoken = normalise(self._strange_thing(domain))
        if self._listener.resembles(spoken):
            raise Reject
        draft = self._filler.draft(block, template, {"name": spoken})
        return _said(draft, {"error": "no_such_entity"})

    def _missing_kind(self, block: Block, template: Template, domain: str) -> _Said:
        """As in "start the vacuum", where there is none."""
        if not block.ours or block.here or block.slots or domain not in KIND_WORDS:
            raise Reject
        if self._filler.owned((domain,)):
            raise Reject
        draft = self._filler.draft(block, template, {"kind": self._rng.choice(KIND_WORDS[domain])})
        if self._listener.named(draft.text):
            raise Reject
        return _said(draft, {"error": "no_such_entity"})

    def _missing_area(self) -> _Said:
        block, template = self._pick(self._rng.choice(_LACKING_PLACES))
        slot = next((slot for slot in ("area", "floor") if slot in template.lists), None)
        if slot is None or "name" in template.lists or (slot == "floor" and self._home.floors):
            raise Reject
        spoken = self._strange_area() if slot == "area" else self._rng.choice(("upstairs", "downstairs"))
        if self._shortlister.pick(spoken).areas or self._listener.named(spoken):
            raise Reject
        draft = self._filler.draft(block, template, {slot: spoken})
        # Without a kind of thing beside it, a strange room and a strange thing sound the same.
        if slot == "area" and not place_is_plain(draft.text, spoken):
            raise Reject
        return _said(draft, {"error": "no_such_area"})

    def _pick(self, category: str) -> tuple[Block, Template]:
        blocks = self._blocks[category]
        # A block with many ways to say a thing comes up more often, but not so often that others vanish.
        weights = [math.sqrt(len(block.templates(self._held_out))) for block in blocks]
        block = self._rng.choices(blocks, weights)[0]
        return block, self._rng.choice(block.templates(self._held_out))

    def _strange_thing(self, domain: str) -> str:
        """Something to ask for; mostly of the domain, but nobody knows what a home lacks."""
        kind = self._rng.random()
        if self._rng.random() < self._names.invented / 3:
            return f"{self._invented()} {self._rng.choice(self._names.things[domain]).split()[-1]}"
        if kind < 0.18:
            domain = self._rng.choice(("light", "switch", "fan", "cover", "media_player", "climate"))
        thing = self._rng.choice(self._names.things[domain])
        if kind < 0.4:
            return f"{self._rng.choice(self._names.areas)} {thing}"
        if kind < 0.52:
            return f"{self._rng.choice(self._names.adjectives)} {thing}"
        if kind < 0.6 and domain in ("cover", "lock"):
            return self._rng.choice(self._names.areas)
        return self._invented() if kind < 0.68 else thing

    def _strange_area(self) -> str:
        invented = self._rng.random() < 0.15
        return normalise(f"{self._invented()} room" if invented else self._rng.choice(self._names.areas))

    def _invented(self) -> str:
        return invented_word(self._rng, self._names)


def _spoken(draft: Draft, slot: str) -> str:
    return normalise(draft.entity.name if slot == "name" and draft.entity else draft.slots[slot])


def _said(draft: Draft, action: Action | list[Action]) -> _Said:
    return _Said(draft.text, action, not draft.free_text, draft.names_first)


def _ends_freely(said: _Said) -> bool:
    """Whether the last words are the speaker's own: a message, an item, a song."""
    actions = said.action if isinstance(said.action, list) else [said.action]
    values = [value for action in actions for value in action.get("slots", {}).values()]
    return not said.plain and any(isinstance(value, str) and said.text.endswith(value) for value in values)


def _repeats(actions: list[Action]) -> bool:
    """Whether two actions are written alike; the grammar lets no answer say the same twice."""
    return len(set(map(answer_text, actions))) < len(actions)
