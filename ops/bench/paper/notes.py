"""What stands under the table: how it is to be read, and what in it is scripted, sampled or left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from ops.bench.paper.scene import Scene

LINK: Final = (
    "The paper's link is read as a round trip of 3 ms and 30 Mbit/s each way, on the bytes between edge and "
    "broker. Edge and cloud have one torch thread each, on a core of its own where there are two; one answer "
    "at a time."
)
COLUMNS: Final = (
    "total, edge, cloud and link: ms of an answer; link: neither side computed. In our rows both may compute "
    "at once: edge and cloud then add up to more than the total. ÷ cloud, time and FLOPs: beside the row "
    "that answers in the cloud alone; time and FLOPs are the cloud's. asks: replies of the cloud per token, "
    "and for a cloud that answers alone forwards of its last layers. agrees: tokens that are the unsplit "
    "model's, by place; until: the tokens before the first that is not."
)
SCRIPTED: Final = (
    "SCRIPTED: weights are random. Every stage and head runs, then a script speaks in the exits' place, in "
    "the paper's request rates; half of the sure tokens leave at the first exit (the paper leaves that "
    "open), and unsure guesses are right as often as on the home model. The cloud's tokens are computed."
)
NAIVE: Final = (
    "naive split: its steps don't depend on each other; one in `naive_stride` was taken, the others are "
    "counted like it."
)
HOME: Final = (
    "home: real exits and requests. Its answers are short and end by themselves; there are no long prompts."
)
SUMMARY: Final = (
    "Figures over_cloud_3ms are over both lengths of prompt together at 27.7% requests; over_cecollm figures "
    "over the short prompts, at every delay; at the slow links the median of the pairs' ratios. Long prompts "
    "are measured at 27.7% only."
)
PAIRS: Final = (
    "Slow links: CE-CoLLM and ours answer one behind the other, in turn the first; each pair has a script of "
    "its own in the same shares, and every link has the same ones."
)
SPENT: Final = (
    "Where the time went: kept and thrown away are forwards of the edge, thrown away those behind a guess "
    "that the cloud refuted; wait, refuted: nothing ran, and then the cloud said another token than guessed; "
    "wait, else: until another answer; between: loop, threads, text. In vain: thrown away and the wait for "
    "refuted guesses."
)
NOTES: Final = (LINK, COLUMNS, SCRIPTED, NAIVE, PAIRS, SPENT, HOME, SUMMARY)


def forms_in_words(scenes: Sequence[Scene]) -> list[str]:
    """Which of its forms each rival took, and on how many of the tables."""
    names = dict.fromkeys(name for scene in scenes for name in scene.forms)
    return [
        f"{name}, the fastest of its forms: "
        + "; ".join(
            f"{form} ({count} of {sum(taken.values())} tables)" for form, count in taken.most_common()
        )
        for name in names
        for taken in [Counter(scene.forms[name] for scene in scenes if name in scene.forms)]
    ]
