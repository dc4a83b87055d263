"""What stands between a sentence and a microphone: politeness, hesitation, mishearing, typing."""

from __future__ import annotations

import random
from typing import Final

_BEFORE: Final = (
    "please", "can you", "could you", "would you", "can you please", "hey", "okay", "ok",
    "i'd like you to", "i want you to", "um", "uh", "so", "would you mind", "go ahead and",
    "i would like to", "quickly", "hey there", "now", "well", "just", "could you please", "excuse me",
    "alright", "would you kindly", "if you don't mind", "do me a favor and", "be so good and",
    "i'd be glad if you", "computer", "assistant", "home assistant", "hey computer", "look", "oh", "and",
    "then", "sorry", "i need to", "you should", "let's", "be nice and", "i need you to please",
    "would you be able to", "kindly", "my friend",
)  # fmt: skip
_INTERJECTIONS: Final = ("hey", "okay", "um", "uh", "so", "well", "excuse me", "listen", "hmm", "tell me")
_AFTER: Final = (
    "please", "for me", "now", "right now", "thanks", "thank you", "would you", "okay", "if you can",
    "will you", "real quick", "again", "immediately", "mate", "pronto", "as soon as possible",
    "when you have time", "whenever you can", "buddy", "cool", "my friend", "if possible", "in a moment",
    "good", "alright", "yeah", "if you would", "sir",
)  # fmt: skip
_HELD_OUT_BEFORE: Final = ("would you be so kind and", "hello there", "be a dear and", "i need you to", "yo")
_HELD_OUT_AFTER: Final = ("if you please", "asap", "when you can", "cheers")

# What recognisers write instead.
_MISHEARD: Final = {
    "light": "lite", "lights": "lites", "living": "livin", "the": "de", "off": "of", "bathroom": "bath room",
    "bedroom": "bed room", "hallway": "hall way", "lamp": "lamb", "kitchen": "kitchin", "dim": "dimm",
    "blinds": "blind", "to": "too", "turn": "tern", "close": "clothes", "office": "offis", "is": "his",
    "what's": "whats", "it's": "its", "please": "pleas", "fan": "van", "for": "four", "degrees": "degree",
    "percent": "per cent",
}  # fmt: skip


def polite(text: str, rng: random.Random, *, held_out: bool = False, question: bool = False) -> str:
    """`text` with words before or after it that change nothing; a `question` takes only interjections."""
    before, after = (_HELD_OUT_BEFORE, _HELD_OUT_AFTER) if held_out else (_BEFORE, _AFTER)
    if rng.random() < 0.22:
        text = f"{rng.choice(_INTERJECTIONS if question else before)} {text}"
    if rng.random() < (0.06 if question else 0.16):
        text = f"{text} {rng.choice(after)}"
    return text


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
