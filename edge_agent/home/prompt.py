"""The one place that knows the text format between a home and its model.

A prompt is the request, a line for each part of the home in the order in which the request mentions them,
then `=`; the model continues with JSON:

     turn off the bedroom lamp
    here: kitchen
    light:* bedroom lamp
    area:* bedroom
    ={"intent": "HassTurnOff", "slots": {"name": " bedroom lamp"}}

A star marks what the request names in full. Every word carries its leading space, in the request, in
the lines and inside JSON strings: a word to copy is then the same token in all three, and a small model
can learn to point rather than to spell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from edge_agent.home.shortlist import Mention, Shortlist
from edge_agent.home.vocabulary import INTENT_SLOTS
from edge_agent.home.words import normalise

# Slots whose values are words of the request or the home; the others are Home Assistant's own words.
SPOKEN_SLOTS: Final = frozenset(
    {
        "name",
        "area",
        "floor",
        "except_name",
        "except_area",
        "item",
        "message",
        "search_query",
        "conversation_command",
        "color",
    }
)


def prompt_text(request: str, shortlist: Shortlist) -> str:
    """The model's input for `request`, up to and with the `=` that its answer follows."""
    here = f"\nhere: {shortlist.here}" if shortlist.here else ""
    return f" {normalise(request)}{here}{''.join(map(_line, shortlist.mentions))}\n="


def answer_text(action: Mapping[str, Any] | list[dict[str, Any]]) -> str:
    """The text that a perfect model would write for `action`; what training aims at."""
    if isinstance(action, list):
        return "[" + ", ".join(map(answer_text, action)) + "]"
    if "error" in action:
        return json.dumps({"error": action["error"]})
    slots = action["slots"]
    ordered = {slot: _spoken(slot, slots[slot]) for slot in INTENT_SLOTS[action["intent"]] if slot in slots}
    return json.dumps({"intent": action["intent"], "slots": ordered}, ensure_ascii=False)


def _line(mention: Mention) -> str:
    alias = f", {mention.alias}" if mention.alias else ""
    return f"\n{mention.kind}:{'*' if mention.in_full else ''} {mention.spelled}{alias}"


def _spoken(slot: str, value: object) -> object:
    return f" {normalise(value)}" if slot in SPOKEN_SLOTS and isinstance(value, str) else value
