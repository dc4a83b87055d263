"""How people ask for several things at once: which wishes are joined by "and" and "then"."""

from __future__ import annotations

import re
from typing import Final

from ops.home.imperatives import is_imperative

# "How about turning the lights off and lock up": the second verb would have to take the first one's form.
_UNFIT_FIRST: Final = re.compile(r"(how about|what about|why not|would you mind|mind|any chance|is it)\b")
# "My hall is dusty and lock the door": what is only told needs a command of its own to go on from.
_TELLING: Final = re.compile(r"\b(is|are|was|were|who|it's|there's|nobody's|everyone's|they're|we're|i'm)\b")
# A later part brings no politeness of its own, and no "it" for what is not said there.
_UNFIT_LATER: Final = re.compile(
    r"(be|do|mind|see|please|save|name|wait|go ahead|make sure)\b"
    r"|\w+ (it|them|that|those)\b(?!.* in (the|my|our) )"
)
# "Lamp on": a thing and its state, without a verb.
_STATE_LAST: Final = re.compile(
    r"(?!.*\b(be|is|are|was|want|like|need|should|must|can|could)\b).* (on|off|open|closed|shut|up|down)$"
)
# Two things are, have and need; what speaks of one thing was not written for two.
_ONE_THING: Final = re.compile(
    r"\b(is|isn't|was|wasn't|has|hasn't|needs|wants|does|doesn't|goes|comes|it|it's|its|that)\b"
)


def may_lead(text: str) -> bool:
    """Whether people join another wish to `text`."""
    if _UNFIT_FIRST.match(text):
        return False
    words = text.split()
    tells = _TELLING.search(text) is not None
    return not tells or any(is_imperative(" ".join(words[start:])) for start in range(len(words)))


def may_follow(text: str, first: str, *, name_first: bool) -> bool:
    """Whether people join `text` to `first`: a command, or a thing and its state after another's.

    Args:
        text: the later wish.
        first: the wish before it.
        name_first: both begin with a name.
    """
    if _UNFIT_LATER.match(text):
        return False
    terse = name_first and all(_STATE_LAST.fullmatch(each) for each in (first, text))
    return terse or is_imperative(text)


def is_of_one(text: str) -> bool:
    """Whether the words around a name speak of one thing: "… is off", "turn that on"."""
    return _ONE_THING.search(text) is not None
