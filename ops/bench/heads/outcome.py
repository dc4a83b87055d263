"""The heads bench's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from ops.bench.heads.cost import FEW_TOKENS, THRESHOLD, HeadCost
from ops.bench.heads.skipping import try_skipping
from ops.bench.heads.texts import TextCost
from ops.bench.report import BenchReport, BenchTable, Row

_US: Final = 1e6
COLUMNS: Final = (
    "LM head",
    "layer µs",
    "whole",
    "screen",
    "few",
    "8 bits",
    "sure %",
    "missed %",
    "changed",
    "8 bits changed",
)
TEXT_COLUMNS: Final = (
    "answers",
    "tokens",
    "forced",
    "stage µs",
    "whole µs",
    "cheap µs",
    "few",
    "screen",
    "all",
    "changed",
)
SKIP_COLUMNS: Final = ("answers", "places", "heads saved %", "tokens lost %")
HEADS_NOTE: Final = (
    "whole, screen, few, 8 bits: time of a draw over that of a layer. Random LM heads and a Llama layer "
    "of their width, one row at a time, in turns; medians. States lean to a token by more or less. whole: "
    f"all logits. screen: the head in eight bits, bounds and exact rows, for a threshold of {THRESHOLD:g}; "
    "missed: then the whole head is needed as well, which is counted in. few: a grammar allows "
    f"{FEW_TOKENS} tokens. 8 bits: the maximum of the eight-bit product alone, with no proof."
)
CHANGED_NOTE: Final = (
    "changed: another token than from all logits, or the other side of the threshold: 0 is promised. 8 "
    "bits changed: other tokens where nothing is promised."
)
ANSWERS_NOTE: Final = (
    "Answers: both sides of the bundle in one process, once by whole heads, once by the cheap ways, "
    "screens included however small the vocabulary is. µs: of an edge stage that took one row, and of a "
    "head with its draw. few, screen, all: how often each way gave the token."
)
SKIPPING_NOTE: Final = (
    "Skipping: no last head where the first exit is less sure than anywhere in one half of the answers "
    "where the last exit was sure; tried on the other half. Tokens lost go to the cloud: their text may "
    "change."
)


@dataclass(frozen=True)
class TextPair:
    """The same questions by whole heads and by the cheap ways."""

    name: str
    whole: TextCost
    cheap: TextCost

    @property
    def changed(self) -> int:
        """Answers that are not equal."""
        return sum(a != b for a, b in zip(self.whole.texts, self.cheap.texts, strict=True))


def report_of(
    costs: Sequence[HeadCost], pairs: Sequence[TextPair], settings: Mapping[str, Any]
) -> BenchReport:
    """Heads, answers, and what skipping would do."""
    more = [
        BenchTable("answers", TEXT_COLUMNS, [_text_row(pair) for pair in pairs]),
        BenchTable("skipping the last head", SKIP_COLUMNS, [_skip_row(pair) for pair in pairs]),
    ]
    rows = [_row(cost) for cost in costs]
    notes = (HEADS_NOTE, CHANGED_NOTE, ANSWERS_NOTE, SKIPPING_NOTE)
    return BenchReport("heads", settings, COLUMNS, rows, summary_of(costs, pairs), notes, more)


def summary_of(costs: Sequence[HeadCost], pairs: Sequence[TextPair]) -> dict[str, float]:
    """Changes, which are promised to be none, and what heads cost."""
    figures = {
        "heads_draws_changed": float(sum(cost.changed for cost in costs)),
        "heads_texts_changed": float(sum(pair.changed for pair in pairs)),
    }
    for cost in costs:
        name = cost.shape.name.replace(" × ", "x").replace(" ", "_")
        figures[f"whole_over_layer_{name}"] = round(_over_layer(cost, "whole"), 4)
        figures[f"screen_over_layer_{name}"] = round(_over_layer(cost, "screen"), 4)
        figures[f"few_over_layer_{name}"] = round(_over_layer(cost, "few"), 4)
    for pair in pairs:
        ratio = median(pair.cheap.head_s) / median(pair.whole.head_s)
        figures[f"cheap_over_whole_{pair.name.replace(' ', '_')}"] = round(ratio, 4)
    return figures


def failures(costs: Sequence[HeadCost], pairs: Sequence[TextPair]) -> list[str]:
    """What was promised and is not so."""
    words = [f"{cost.shape.name}: {cost.changed} draws changed" for cost in costs if cost.changed]
    return words + [f"{pair.name}: {pair.changed} texts changed" for pair in pairs if pair.changed]


def _row(cost: HeadCost) -> Row:
    rows = cost.shape.rows
    return {
        "LM head": cost.shape.name,
        "layer µs": median(cost.seconds["layer"]) * _US,
        "whole": _over_layer(cost, "whole"),
        "screen": _over_layer(cost, "screen"),
        "few": _over_layer(cost, "few"),
        "8 bits": _over_layer(cost, "eight bits"),
        "sure %": 100 * cost.sure / rows,
        "missed %": 100 * cost.screen_misses / rows,
        "changed": cost.changed,
        "8 bits changed": cost.eight_bits_changed,
    }


def _text_row(pair: TextPair) -> Row:
    ways = pair.cheap.ways
    return {
        "answers": f"{pair.name}, {len(pair.cheap.texts)}",
        "tokens": pair.cheap.forced + pair.cheap.decided,
        "forced": pair.cheap.forced,
        "stage µs": median(pair.whole.stage_s) * _US if pair.whole.stage_s else None,
        "whole µs": median(pair.whole.head_s) * _US,
        "cheap µs": median(pair.cheap.head_s) * _US,
        "few": ways["few"],
        "screen": ways["screen"],
        "all": ways["whole"],
        "changed": pair.changed,
    }


def _skip_row(pair: TextPair) -> Row:
    found = try_skipping(pair.whole.unsure)
    return {
        "answers": pair.name,
        "places": found.places,
        "heads saved %": 100 * found.saved,
        "tokens lost %": 100 * found.lost,
    }


def _over_layer(cost: HeadCost, name: str) -> float:
    return median(cost.seconds[name]) / median(cost.seconds["layer"])
