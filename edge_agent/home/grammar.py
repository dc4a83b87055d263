"""Which answers a request may have: JSON that this home can read, with names and words at hand.

    answer  = action | "[" action ", " action … "]" | refusal
    action  = {"intent": INTENT, "slots": {slot, …}}         slots in the order of `INTENT_SLOTS`
    value   = a name of the shortlist | a word of Home Assistant | a number said or implied
            | a run of the request's own words

Tokens are those of the text's pieces encoded one by one, which for the home model's tokenizer are the
tokens of the whole text: no piece merges with its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Final, NamedTuple

from edge_agent.home.actions import MAX_ACTIONS
from edge_agent.home.shortlist import MAX_REQUEST_WORDS, Mention, Shortlist
from edge_agent.home.vocabulary import (
    FREE_NAME_INTENTS,
    IMPLIED_NUMBERS,
    INTENT_DOMAINS,
    INTENT_SLOTS,
    NUMBER_RANGES,
    SLOT_WORDS,
)
from edge_agent.home.words import normalise
from edge_agent.token_paths import Path, TokenPaths

_REFUSALS: Final = ("no_such_entity", "no_such_area", "not_a_command")
# A message or a list of things is seldom longer.
_MAX_FREE_WORDS: Final = 40
_STEP_WORDS: Final = ("up", "down")
_MAX_STEP: Final = 100  # percent

Encode = Callable[[str], Sequence[int]]
Paths = Iterator[Path]
Then = Callable[[], Paths]
After = Callable[[str], Paths]


class Slot(NamedTuple):
    """A slot about to be written: of which intent, and what stands between it and the one before."""

    intent: str
    name: str
    lead: str


class ActionGrammar:
    """The grammar of home actions over one tokenizer's ids.

    Args:
        encode: text → token ids, without special tokens.
        stop_tokens: ids that end an answer.
    """

    def __init__(self, encode: Encode, stop_tokens: Sequence[int]) -> None:
        self._stops = tuple(sorted(stop_tokens))
        # The fixed parts are the same for every request; names and words pass through.
        self.tokens = lru_cache(maxsize=4096)(lambda text: tuple(encode(text)))

    def constraint(self, request: str, shortlist: Shortlist) -> TokenPaths:
        """What may be answered to `request`, given what the model sees of the home."""
        return TokenPaths(_Answer(self, request, shortlist).start())

    def end(self) -> Paths:
        """The end of an answer."""
        return (Path((stop,), _nothing) for stop in self._stops)


class _Answer:
    """The paths of one request's answers."""

    def __init__(self, grammar: ActionGrammar, request: str, shortlist: Shortlist) -> None:
        self._grammar = grammar
        # As far as the shortlist reads too: runs of runs grow with the square of the words.
        self._words = normalise(request).split()[:MAX_REQUEST_WORDS]
        self._numbers = [word for word in dict.fromkeys(self._words) if _is_number(word)]
        self._shortlist = shortlist

    def start(self) -> Paths:
        """The first token decides: one action, several, or none."""
        yield self._path('{"intent": "', lambda: self._intents(1, several=False))
        yield self._path('[{"intent": "', lambda: self._intents(1, several=True))
        for code in _REFUSALS:
            yield self._path('{"error": "' + code + '"}', self._grammar.end)

    def _path(self, text: str, then: Then) -> Path:
        return Path(self._grammar.tokens(text), then)

    def _intents(self, count: int, *, several: bool) -> Paths:
        for intent in INTENT_SLOTS:
            slots = _Slots(self, intent, count, several=several)
            yield self._path(intent + '", "slots": {', slots.first)

    def close(self, quote: str, count: int, *, several: bool) -> Paths:
        """The end of the `count`th action."""
        if not several:
            yield self._path(quote + "}}", self._grammar.end)
            return
        if count < MAX_ACTIONS:
            yield self._path(quote + '}}, {"intent": "', lambda: self._intents(count + 1, several=True))
        if count > 1:
            yield self._path(quote + "}}]", self._grammar.end)

    def values(self, slot: Slot, after: After) -> Paths:
        """The values of a slot; `after` gets what closes the value: a quote, or nothing."""
        if slot.name in NUMBER_RANGES:
            return self._number(slot, after)
        if slot.name == "volume_step":
            return self._volume_step(slot, after)
        if slot.name in SLOT_WORDS:
            lead = " " if slot.name == "color" else ""
            return self._strings(slot, [lead + word for word in SLOT_WORDS[slot.name]], after)
        names = self._names(slot)
        return self._free(slot, after) if names is None else self._strings(slot, names, after)

    def _names(self, slot: Slot) -> list[str] | None:
        """Names that the slot may hold; None if it takes the speaker's own words."""
        found: Iterable[Mention]
        if slot.name in ("area", "except_area"):
            here = Mention("area", self._shortlist.here)
            found = [here, *self._shortlist.areas] if here.spelled else self._shortlist.areas
        elif slot.name == "floor":
            found = self._shortlist.floors
        elif slot.name in ("name", "except_name") and slot.intent not in FREE_NAME_INTENTS:
            found = self._things(INTENT_DOMAINS.get(slot.intent))
        else:
            return None
        return list(dict.fromkeys(f" {mention.spelled}" for mention in found))

    def _things(self, domains: frozenset[str] | None) -> list[Mention]:
        """What is in sight; of an intent's own kinds also what the home has only one of."""
        if domains is None:
            return list(self._shortlist.entities)
        both = (*self._shortlist.entities, *self._shortlist.only)
        return [mention for mention in both if mention.kind in domains]

    def _strings(self, slot: Slot, values: Sequence[str], after: After) -> Paths:
        return (self._path(f'{slot.lead}"{slot.name}": "{value}', partial(after, '"')) for value in values)

    def _number(self, slot: Slot, after: After) -> Paths:
        low, high = NUMBER_RANGES[slot.name]
        implied = map(str, IMPLIED_NUMBERS.get(slot.name, ()))
        for number in dict.fromkeys(map(_spelled, [*self._numbers, *implied])):
            if low <= float(number) <= high:
                yield self._path(f'{slot.lead}"{slot.name}": {number}', partial(after, ""))

    def _volume_step(self, slot: Slot, after: After) -> Paths:
        yield from self._strings(slot, _STEP_WORDS, after)
        for number in map(_spelled, self._numbers):
            for sign in ("", "-") if float(number) <= _MAX_STEP else ():
                yield self._path(f'{slot.lead}"volume_step": {sign}{number}', partial(after, ""))

    def _free(self, slot: Slot, after: After) -> Paths:
        """A run of the request's own words, from any of them to any later one."""
        for start in range(len(self._words)):
            yield self._path(
                f'{slot.lead}"{slot.name}": "', partial(self._run, start, 1, partial(after, '"'))
            )

    def _run(self, index: int, count: int, then: Then) -> Paths:
        """The word at `index`, the `count`th of its run."""

        def after() -> Paths:
            yield from then()
            if index + 1 < len(self._words) and count < _MAX_FREE_WORDS:
                yield from self._run(index + 1, count + 1, then)

        yield self._path(f" {self._words[index]}", after)


class _Slots:
    """The slots of one action, each at most once and in their order."""

    def __init__(self, answer: _Answer, intent: str, count: int, *, several: bool) -> None:
        self._answer, self._intent = answer, intent
        self._count, self._several = count, several

    def first(self) -> Paths:
        """The first slot, or none."""
        yield from self._from(0, lead="")
        yield from self._close("")

    def _close(self, quote: str) -> Paths:
        return self._answer.close(quote, self._count, several=self._several)

    def _from(self, index: int, lead: str) -> Paths:
        """Any slot from the `index`th on, after `lead`."""
        for place, name in enumerate(INTENT_SLOTS[self._intent][index:], start=index):
            yield from self._answer.values(Slot(self._intent, name, lead), partial(self._after, place))

    def _after(self, place: int, quote: str) -> Paths:
        yield from self._from(place + 1, lead=quote + ", ")
        yield from self._close(quote)


def _nothing() -> Paths:
    return iter(())


def _is_number(word: str) -> bool:
    return word[0].isdigit()


def _spelled(number: str) -> str:
    """As JSON writes it: 21, 21.5, and 7 for 007."""
    return f"{float(number):g}"
