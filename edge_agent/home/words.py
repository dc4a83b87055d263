"""One spelling for requests and names: lower case, no punctuation, digits for number words.

Training and run time both pass through here, so the model never meets a spelling it was not taught.
"""

from __future__ import annotations

import re

_ONES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = (
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")

_ONE_VALUES = {word: value for value, word in enumerate(_ONES, start=1)}
_TEEN_VALUES = {word: value for value, word in enumerate(_TEENS, start=10)}
_TEN_VALUES = {word: value for value, word in enumerate(_TENS, start=2)}

# "one" alone is usually a pronoun ("the one in the kitchen"), so it counts only before a unit.
_UNITS = frozenset(
    {"percent", "degree", "degrees", "hour", "hours", "minute", "minutes", "second", "seconds", "half"}
)

_AND_A_HALF = ["and", "a", "half"]

_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": " ", "”": " ", '"': " "})
_SIGNS = {"%": "percent", "°": "degrees"}
_WORD = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+(?:'[^\W\d_]+)*|[%°]")


def normalise(text: str) -> str:
    """Spell `text` the way the model reads it.

    Args:
        text: a request or a name, as a person wrote it or a speech recogniser heard it.

    Returns:
        Lower-case words and numbers with single spaces between them; `""` when nothing is left.
    """
    plain = text.lower().translate(_QUOTES).replace("1/2", "half")
    return " ".join(_digits([_SIGNS.get(word, word) for word in _WORD.findall(plain)]))


def _digits(words: list[str]) -> list[str]:
    """Replace number words by digits: `["twenty", "one", "degrees"]` → `["21", "degrees"]`."""
    out: list[str] = []
    index = 0
    while index < len(words):
        value, used = _number_at(words, index)
        out.append(words[index] if value is None else str(value))
        index += used
    return out


def _number_at(words: list[str], index: int) -> tuple[int | None, int]:
    """The number that starts at `index` and how many words it takes; `(None, 1)` if there is none."""
    word = words[index]
    following = words[index + 1] if index + 1 < len(words) else ""
    if word in _TEEN_VALUES:
        return _TEEN_VALUES[word], 1
    if word in _TEN_VALUES:
        tens = 10 * _TEN_VALUES[word]
        return (tens + _ONE_VALUES[following], 2) if following in _ONE_VALUES else (tens, 1)
    if word in _ONE_VALUES:
        if following == "hundred":
            return 100 * _ONE_VALUES[word], 2
        if following in _UNITS or words[index + 1 : index + 4] == _AND_A_HALF:
            return _ONE_VALUES[word], 1
    return None, 1
