"""Is an answer right, is it valid, how near is it to another?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from edge_agent.home.home import Home
from edge_agent.home.vocabulary import FREE_NAME_INTENTS, says_enough
from edge_agent.home.words import normalise
from ops.home.sample import is_exact
from ops.quality.sources import Request

_NAME_SLOTS = ("name", "except_name")
_AREA_SLOTS = ("area", "except_area")


def is_right(action: Any, request: Request) -> bool:
    """Whether a device that gets `action` does what was asked: the same actions, in any order."""
    return any(is_exact(_text(right), _text(action)) for right in request.right)


def is_invalid(output: str, action: Any, home: Home) -> bool:
    """Whether what the model wrote is no action or refusal, lacks a slot, or names what the home lacks."""
    if isinstance(action, dict) and action.get("error") == "not_understood":
        return True
    written = json.loads(output)
    items = written if isinstance(written, list) else [written]
    return any(not _is_whole(item) or not _is_known(item, home) for item in items)


def acts(action: Any) -> bool:
    """Whether anything would be carried out: `action` is no refusal."""
    return not (isinstance(action, dict) and "error" in action)


def is_refused(request: Request) -> bool:
    """Whether every right answer is a refusal."""
    return not any(map(acts, request.right))


def _is_whole(item: dict[str, Any]) -> bool:
    return "intent" not in item or says_enough(item["intent"], item.get("slots", {}))


def _is_known(item: dict[str, Any], home: Home) -> bool:
    slots = item.get("slots", {})
    areas = _spelled(area.name for area in home.areas)
    floors = _spelled(floor.name for floor in home.floors)
    things = _spelled(entity.name for entity in home.entities)
    if item.get("intent") not in FREE_NAME_INTENTS and not _named(slots, _NAME_SLOTS) <= things:
        return False
    return _named(slots, _AREA_SLOTS) <= areas and _named(slots, ("floor",)) <= floors


def _named(slots: dict[str, Any], names: Sequence[str]) -> set[str]:
    return _spelled(str(slots[name]) for name in names if name in slots)


def _spelled(names: Iterable[str]) -> set[str]:
    return {normalise(name) for name in names}


def _text(action: Any) -> str:
    """JSON of an action; of a refusal only its code."""
    return json.dumps(action if acts(action) else {"error": action["error"]})


def rouge_l(reference: str, text: str) -> float:
    """F1 of the longest common subsequence of words; two empty texts are equal.

    Source: Lin, ROUGE: A Package for Automatic Evaluation of Summaries (2004), section 3.
    """
    wanted, got = reference.split(), text.split()
    if not wanted or not got:
        return float(wanted == got)
    return 2.0 * _common(wanted, got) / (len(wanted) + len(got))


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for word in first:
        row = list(_next_row(row, word, second))
    return row[-1]


def _next_row(row: list[int], word: str, second: Sequence[str]) -> Iterator[int]:
    best = 0
    yield best
    for index, other in enumerate(second):
        best = row[index] + 1 if word == other else max(best, row[index + 1])
        yield best
