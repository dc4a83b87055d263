"""Which answers a request may have: JSON that this home can read, with names and words at hand.

    answer  = action | "[" action ", " action … "]" | refusal           no action of a list twice
    action  = {"intent": INTENT, "slots": {slot, …}}         slots in the order of `INTENT_SLOTS`,
                                                             none of `REQUIRED_SLOTS` missing
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
    EVERYTHING,
    FREE_NAME_INTENTS,
    IMPLIED_NUMBERS,
    INTENT_DOMAINS,
    INTENT_SLOTS,
    MAX_STEP,
    NUMBER_SLOTS,
    REQUIRED_SLOTS,
    SLOT_WORDS,
    STEP_SLOT,
    STEP_WORDS,
    number_range,
    slot_words,
)
from edge_agent.home.words import normalise
from edge_agent.token_paths import Path, TokenPaths

_REFUSALS: Final = ("no_such_entity", "no_such_area", "not_a_command")
# A message or a list of things is seldom longer.
_MAX_FREE_WORDS: Final = 40

Encode = Callable[[str], Sequence[int]]
Paths = Iterator[Path]
Then = Callable[[], Paths]
# Groups of slots, by their places; of each one is still to be written.
Needs = tuple[frozenset[int], ...]


class Value(NamedTuple):
    """A slot's value as JSON, but for the quote that closes it: what follows is one piece with that quote."""

    text: str
    quote: str = ""


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
        self.words = normalise(request).split()[:MAX_REQUEST_WORDS]
        self._numbers = [word for word in dict.fromkeys(self.words) if _is_number(word)]
        self._shortlist = shortlist

    def start(self) -> Paths:
        """The first token decides: one action, several, or none."""
        yield self.path('{"intent": "', lambda: self._intents(None))
        yield self.path('[{"intent": "', lambda: self._intents(()))
        for code in _REFUSALS:
            yield self.path('{"error": "' + code + '"}', self._grammar.end)

    def path(self, text: str, then: Then) -> Path:
        """The path along the tokens of `text`."""
        return Path(self._grammar.tokens(text), then)

    def _intents(self, done: tuple[str, ...] | None) -> Paths:
        """The next action; `done` are the list's actions before it, None where there is no list."""
        for intent in INTENT_SLOTS:
            yield from _Action(self, intent, done).start()

    def close(self, quote: str, done: tuple[str, ...] | None) -> Paths:
        """The end of an action, which is the last of `done` if it stands in a list."""
        if done is None:
            yield self.path(quote + "}}", self._grammar.end)
            return
        if len(done) < MAX_ACTIONS:
            yield self.path(quote + '}}, {"intent": "', lambda: self._intents(done))
        if len(done) > 1:
            yield self.path(quote + "}}]", self._grammar.end)

    def values(self, intent: str, slot: str) -> Iterator[Value] | None:
        """The values of a slot; None if it takes any run of the speaker's own words."""
        if slot in NUMBER_SLOTS:
            return self._within(slot, *number_range(intent, slot))
        if slot == STEP_SLOT:
            return self._volume_steps()
        if slot in SLOT_WORDS:
            lead = " " if slot == "color" else ""
            return _quoted(lead + word for word in slot_words(intent, slot))
        names = self._names(intent, slot)
        return None if names is None else _quoted(dict.fromkeys(f" {name.spelled}" for name in names))

    def can_fill(self, intent: str, slot: str) -> bool:
        """Whether there is any value for a slot."""
        values = self.values(intent, slot)
        return bool(self.words) if values is None else next(values, None) is not None

    def _names(self, intent: str, slot: str) -> Iterable[Mention] | None:
        """What the slot may name; None if it takes the speaker's own words."""
        if slot in ("area", "except_area"):
            here = Mention("area", self._shortlist.here)
            return (here, *self._shortlist.areas) if here.spelled else self._shortlist.areas
        if slot == "floor":
            return self._shortlist.floors
        if slot in ("name", "except_name") and intent not in FREE_NAME_INTENTS:
            return self._things(intent)
        return None

    def _things(self, intent: str) -> Iterable[Mention]:
        """What is in sight; of an intent's own few kinds also what the home has only one of."""
        domains = INTENT_DOMAINS.get(intent)
        if domains is None:
            return self._shortlist.entities
        unseen = () if EVERYTHING in domains else self._shortlist.only
        return [mention for mention in (*self._shortlist.entities, *unseen) if mention.kind in domains]

    def _within(self, slot: str, low: float, high: float) -> Iterator[Value]:
        """Numbers said or implied that make sense for the slot."""
        implied = map(str, IMPLIED_NUMBERS.get(slot, ()))
        for number in dict.fromkeys(map(_spelled, [*self._numbers, *implied])):
            if low <= float(number) <= high:
                yield Value(number)

    def _volume_steps(self) -> Iterator[Value]:
        yield from _quoted(STEP_WORDS)
        for number in map(_spelled, self._numbers):
            if float(number) <= MAX_STEP:
                yield from (Value(number), Value(f"-{number}"))


class _Action:
    """The paths of one action: its slots, each at most once and in their order, until nothing is missing.

    In a list, what an earlier action says already is not said again. No path is offered that could only
    end in saying it, or without what the action needs: whoever follows the paths always comes to an end.

    Args:
        answer: what it is part of.
        intent: the action's.
        done: the texts of the actions before it in a list; None where there is no list.
    """

    def __init__(self, answer: _Answer, intent: str, done: tuple[str, ...] | None) -> None:
        self._answer, self._intent, self._done = answer, intent, done

    def start(self) -> Paths:
        """The intent, then the first slot or none; nothing where a slot that it needs can't be filled."""
        needs = tuple(map(self._fillable, REQUIRED_SLOTS.get(self._intent, ())))
        if not all(needs):
            return _nothing()
        return iter(self._step("", f'{self._intent}", "slots": {{', partial(self._first, needs)))

    def _fillable(self, group: Sequence[str]) -> frozenset[int]:
        """The places of those slots of a group for which there are values."""
        slots = INTENT_SLOTS[self._intent]
        return frozenset(slots.index(slot) for slot in group if self._answer.can_fill(self._intent, slot))

    def _step(self, written: str, piece: str, after: Callable[[str], Paths]) -> tuple[Path, ...]:
        """The path along `piece`, if it leads anywhere; `after` gets what is written by then."""
        written += piece
        if self._done and self._may_repeat(written) and next(after(written), None) is None:
            return ()
        return (self._answer.path(piece, partial(after, written)),)

    def _may_repeat(self, written: str) -> bool:
        """Whether an action of before begins like this: only then may every way on be barred."""
        return any(text.startswith(written) for text in self._done or ())

    def _first(self, needs: Needs, written: str) -> Paths:
        yield from self._slots(written, 0, "", needs)
        yield from self._close(written, "", needs)

    def _next(self, place: int, needs: Needs, quote: str, written: str) -> Paths:
        """What may follow the slot at `place`, whose value `quote` closes; `needs` were open before it."""
        needs = tuple(group for group in needs if place not in group)
        yield from self._slots(written, place + 1, quote + ", ", needs)
        yield from self._close(written, quote, needs)

    def _slots(self, written: str, index: int, lead: str, needs: Needs) -> Paths:
        """Any slot from the `index`th on, after `lead`, but none behind the last that fills a need."""
        slots = INTENT_SLOTS[self._intent]
        last = min(map(max, needs), default=len(slots) - 1)
        for place in range(index, last + 1):
            slot, after = slots[place], partial(self._next, place, needs)
            values = self._answer.values(self._intent, slot)
            if values is None:
                yield from self._runs(written, f'{lead}"{slot}": "', partial(after, '"'))
                continue
            for value in values:
                yield from self._step(written, f'{lead}"{slot}": {value.text}', partial(after, value.quote))

    def _runs(self, written: str, piece: str, after: Callable[[str], Paths]) -> tuple[Path, ...]:
        """A run of the request's own words, from any of them to any later one."""
        return self._step(written, piece, partial(self._words, range(len(self._answer.words)), 1, after))

    def _words(self, places: Iterable[int], count: int, after: Callable[[str], Paths], written: str) -> Paths:
        """The `count`th word of a run, which is one of those at `places`.

        Places with the same word share a path: copies would multiply with each run of an answer.
        """
        alike: dict[str, list[int]] = {}
        for place in places:
            alike.setdefault(self._answer.words[place], []).append(place)
        for word, heard in alike.items():
            yield from self._step(written, f" {word}", partial(self._run, heard, count, after))

    def _run(self, places: Iterable[int], count: int, after: Callable[[str], Paths], written: str) -> Paths:
        """A run that ends with one of the words at `places`, or goes on."""
        yield from after(written)
        if count < _MAX_FREE_WORDS:
            following = [place + 1 for place in places if place + 1 < len(self._answer.words)]
            yield from self._words(following, count + 1, after, written)

    def _close(self, written: str, quote: str, needs: Needs) -> Paths:
        if needs:
            return _nothing()
        if self._done is None:
            return self._answer.close(quote, None)
        action = written + quote
        return _nothing() if action in self._done else self._answer.close(quote, (*self._done, action))


def _quoted(texts: Iterable[str]) -> Iterator[Value]:
    return (Value(f'"{text}', '"') for text in texts)


def _nothing() -> Paths:
    return iter(())


def _is_number(word: str) -> bool:
    return word[0].isdigit()


def _spelled(number: str) -> str:
    """As JSON writes it: 21, 21.5, and 7 for 007."""
    return f"{float(number):g}"
