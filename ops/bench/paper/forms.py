"""The forms that a rival may take, and the choice between them: the fastest is the row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from ops.bench.paper.edge import CE_COLLM, SELF_SPECULATION, EdgeSide
from ops.bench.paper.peer import Prompt
from ops.bench.paper.rig import Rig
from ops.bench.paper.script import Script
from ops.bench.paper.words import DraftPlan

# Rivals that have a choice.
WITH_FORMS: Final = (SELF_SPECULATION, CE_COLLM)
# Of them those whose choice hangs on the link; a cloud that drafts for itself does so on its side of it.
OF_THE_LINK: Final = (CE_COLLM,)
DRAFT_PLANS: Final = (
    DraftPlan(8),
    DraftPlan(8, bonus=True),
    DraftPlan(16, bonus=True),
    DraftPlan(4, stop_unsure=False, bonus=True),
)


class Trial(NamedTuple):
    """An answer over which forms are compared; as in `Rig.measure`."""

    prompt: Prompt
    new_tokens: int
    script: Script | None


def forms_of(edge: EdgeSide, name: str) -> dict[str, Callable[[], None]]:
    """A rival's forms, in words, and what makes it take each."""
    if name == SELF_SPECULATION:
        return {str(plan): partial(edge.speculate, plan) for plan in DRAFT_PLANS}
    return {
        f"states of stage {rung + 1} go up": partial(edge.upload_after, rung)
        for rung in range(len(edge.rungs))
    }


async def take_fastest(rig: Rig, name: str, trials: Sequence[Trial], tell: Callable[[str], None]) -> str:
    """Let a rival take the form in which it is fastest, on the link of now.

    Args:
        rig: runs.
        name: of the rival, one of `WITH_FORMS`.
        trials: each form answers all of them, in turn with the others.
        tell: is told what is being tried.

    Returns:
        The form in words.
    """
    forms = forms_of(rig.edge, name)
    times_s = dict.fromkeys(forms, 0.0)
    for trial in trials:
        for form, take in forms.items():
            take()
            tell(f"{name}: {form}")
            times_s[form] += (await rig.measure(name, *trial)).total_s
    best = min(times_s, key=times_s.__getitem__)
    forms[best]()
    return best
