"""Words before and after a request that change nothing, where a person would say them.

"Could you" wants a verb: it may stand before "turn the lights on" and not before "i'd like the lights on".
`names.yaml` lists frames without saying so; here their words do. What is not known to fit anywhere is
taken for a frame that wants a command.
"""

from __future__ import annotations

import random
from typing import Final

from ops.home.imperatives import is_imperative, words
from ops.home.names import Names

# Frames of these words alone may stand before anything.
_INTERJECTIONS: Final = words("""
    blimey crikey incidentally honestly jeeves g'day psst greetings butler thought hola bonjour days lord
    a actually afternoon again ah ahem alexa all alright also an and another anyhow anyway ask assistant
    attention aw beep before beg bother buddy but by cheers computer cool darling dear disturb dude eh
    er erm evening everybody everyone excuse fine first folks forget forgive friend good goodness gosh
    great guys hallo hang heads hello hey hi hiya hm hmm hold home honey house howdy i i'm interrupt
    jarvis kind know last like listen look ma'am man mate me mean mind moment more morning my next no
    now of oh oi ok okay on once one ooh pal pardon perfect phew pleas please question quick quickly
    real really right robot said say second sir so sorry sure sweetheart sweetie ta thank thanks that
    the then there thing this time times to ugh uh uhm um up wait way well what whoa yeah yep yes yo you
""")
# Their words are interjections', but what comes next must be a verb, or nothing fits at all.
_ENDS_ON_VERB: Final = frozenset({"to", "you", "i", "like", "of", "on", "me", "the", "a", "an", "my"})
_CLOSED: Final = ("thank you", "hey you", "excuse me", "pardon me", "forgive me", "hang on", "ask you")
# Frames with these are said before questions only.
_ASKING: Final = frozenset(
    {"question", "questions", "ask", "wonder", "wondering", "tell", "know", "curious", "curiosity"}
)
# After these a noun, a clause or an "-ing" form has to follow, which no request begins with.
_MISFITS: Final = (
    "mind", "about", "of", "if", "whether", "that", "like", "appreciate", "consider", "make sure", "be sure",
    "want", "need",
)  # fmt: skip
_FITTING: Final = ("don't mind", "wouldn't mind", "never mind", "first of all", "like that", "as i like")

# Frames of these words alone may stand after anything; the others ask for something to be done.
_COURTESIES: Final = words("""
    a and appreciated assistant buddy cheers computer darling dear dude friend home honey house kindly
    lot lots love ma'am man many mate million much my of ok okay pal please pls pretty sir so sweetheart
    sweetie ta thank thanks thx ton tons very you
""")

# With one of these a frame is no part of an item or a message that it follows; "honey" alone might be.
_THANKS: Final = words("appreciated cheers kindly pls please ta thank thanks thx")

_QUESTION_WORDS: Final = words("""
    am any are aren't did does has hasn't have how how's is isn't was were what what's whats when when's
    where where's wheres which who who's whose
""")


class Politeness:
    """One side's frames, sorted out by what they may stand around.

    Args:
        names: the side's words.
    """

    def __init__(self, names: Names) -> None:
        before = tuple(frame for frame in names.before if not _fits_nothing(frame))
        free = tuple(frame for frame in (*before, *names.before_question) if is_interjection(frame))
        self._before = {"command": before, "question": names.before_question, "other": free}
        self._after_command = names.after
        self._after_any = tuple(frame for frame in names.after if _COURTESIES.issuperset(frame.split()))
        self._after_open = tuple(frame for frame in self._after_any if _THANKS.intersection(frame.split()))

    def around(
        self, text: str, rng: random.Random, *, names_first: bool = False, open_end: bool = False
    ) -> str:
        """`text`, at times with words before or after it that change nothing.

        Args:
            text: a request.
            rng: the only source of chance.
            names_first: it begins with a name, which may look like a verb ("open kitchen lights").
            open_end: it ends in the speaker's own words, which more words would seem to belong to.
        """
        form = "other" if names_first else _form(text)
        after = self._after_command if form == "command" else self._after_any
        if open_end:
            after = self._after_open
        if rng.random() < 0.24:
            text = f"{rng.choice(self._before[form])} {text}"
        if rng.random() < (0.16 if form == "command" else 0.08):
            text = f"{text} {rng.choice(after)}"
        return text


def is_interjection(frame: str) -> bool:
    """Whether `frame` may stand before anything, like "hey" or "thank you"."""
    words = frame.split()
    if not _INTERJECTIONS.issuperset(words) or _ASKING.intersection(words):
        return False
    return words[-1] not in _ENDS_ON_VERB or frame.endswith(_CLOSED)


def _fits_nothing(frame: str) -> bool:
    """Whether what `frame` waits for begins no request: "would you mind" turning, "how about" the lights."""
    return f" {frame}".endswith(tuple(f" {end}" for end in _MISFITS)) and not frame.endswith(_FITTING)


def _form(text: str) -> str:
    if is_imperative(text):
        return "command"
    return "question" if text.partition(" ")[0] in _QUESTION_WORDS else "other"
