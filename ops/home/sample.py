"""One labelled request, when an answer to it is right, and exams of them on disk."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.home.home import Home
from edge_agent.home.prompt import answer_text, prompt_text
from edge_agent.home.shortlist import Shortlister
from edge_agent.home.vocabulary import FREE_NAME_INTENTS
from edge_agent.home.words import normalise

Action = dict[str, Any]


class Sample(msgspec.Struct, frozen=True):
    """One request in one home with the action it should become."""

    category: str
    home: Home
    request: str
    action: Action | list[Action]
    prompt: str

    @property
    def answer(self) -> str:
        """What the model should write."""
        return answer_text(self.action)


class _Ask(msgspec.Struct, frozen=True):
    category: str
    request: str
    action: Action | list[Action]


class _Page(msgspec.Struct, frozen=True):
    """One home and what is asked in it: one line of an exam's file."""

    home: Home
    asks: tuple[_Ask, ...]


def save_exam(path: Path, samples: Sequence[Sample]) -> None:
    """Write samples as JSON lines, a home with its requests on each."""
    with path.open("wb") as file:
        for home, asked in itertools.groupby(samples, key=lambda sample: sample.home):
            asks = tuple(_Ask(each.category, each.request, each.action) for each in asked)
            file.write(msgspec.json.encode(_Page(home, asks)) + b"\n")


def load_exam(path: Path) -> list[Sample]:
    """Read what `save_exam` wrote; prompts are written anew, as at run time."""
    samples: list[Sample] = []
    with path.open("rb") as file:
        for line in file:
            page = msgspec.json.decode(line, type=_Page)
            shortlister = Shortlister(page.home)
            for ask in page.asks:
                prompt = prompt_text(ask.request, shortlister.pick(ask.request))
                samples.append(Sample(ask.category, page.home, ask.request, ask.action, prompt))
    return samples


def is_exact(wanted: str, written: str) -> bool:
    """Whether two answers are the same actions, as JSON.

    Several actions may stand in any order, and the same action twice is one, as at run time.
    """
    try:
        return _actions(json.loads(written)) == _actions(json.loads(wanted))
    except (ValueError, RecursionError):
        return False


def _actions(value: object) -> set[str]:
    items = value if isinstance(value, list) else [value]
    return {json.dumps(_canonical(item), sort_keys=True) for item in items}


def _canonical(value: object) -> object:
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    return normalise(value) if isinstance(value, str) else value


def is_answerable(sample: Sample) -> bool:
    """Whether the prompt's lines hold every name that the answer needs, or the home has one such thing."""
    shown = sample.prompt.partition("\n")[2] + _only_things(sample.home)
    for action in sample.action if isinstance(sample.action, list) else [sample.action]:
        slots = action.get("slots", {})
        places = ("area", "floor", "except_name", "except_area")
        things = places if action.get("intent") in FREE_NAME_INTENTS else ("name", *places)
        if not all(normalise(str(slots[slot])) in shown for slot in things if slot in slots):
            return False
    return True


def _only_things(home: Home) -> str:
    """Names of the vacuum and the mower of a home that has one of them: people seldom say these."""
    kinds = Counter(entity.domain for entity in home.entities)
    return "\n".join(
        normalise(entity.name)
        for entity in home.entities
        if entity.domain in ("vacuum", "lawn_mower") and kinds[entity.domain] == 1
    )
