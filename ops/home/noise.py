"""What stands between a sentence and a microphone: hesitation, mishearing, typing."""

from __future__ import annotations

import random
from typing import Final

# What recognisers write instead.
_MISHEARD: Final = {
    "light": "lite", "lights": "lites", "living": "livin", "the": "de", "off": "of", "bathroom": "bath room",
    "bedroom": "bed room", "hallway": "hall way", "lamp": "lamb", "kitchen": "kitchin", "dim": "dimm",
    "blinds": "blind", "to": "too", "turn": "tern", "close": "clothes", "office": "offis", "is": "his",
    "what's": "whats", "it's": "its", "please": "pleas", "fan": "van", "for": "four", "degrees": "degree",
    "percent": "per cent",
}  # fmt: skip


def garble(text: str, rng: random.Random) -> str:
    """`text` with one small accident: a slip of the finger, a misheard, lost or doubled word."""
    words = text.split()
    if len(words) < 3:
        return text
    index = rng.randrange(len(words))
    kind = rng.random()
    if kind < 0.4:
        words[index] = _slip(words[index], rng)
    elif kind < 0.65:
        words = [_MISHEARD.get(word, word) if rng.random() < 0.5 else word for word in words]
    elif kind < 0.85:
        words = [word for word in words if word not in ("the", "my", "our", "a")]
    else:
        words.insert(index, rng.choice(("um", "uh", words[index])))
    return " ".join(words)


def _slip(word: str, rng: random.Random) -> str:
    if len(word) < 5 or not word.isalpha():
        return word
    index = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(3)
    if kind == 0:  # two letters swapped
        return word[:index] + word[index + 1] + word[index] + word[index + 2 :]
    if kind == 1:  # one lost
        return word[:index] + word[index + 1 :]
    return word[:index] + word[index] + word[index:]  # one doubled
