"""Rivals take the fastest of their forms."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from ops.bench.link_proxy import Link
from ops.bench.paper.edge import CE_COLLM, NAIVE, SELF_SPECULATION
from ops.bench.paper.forms import DRAFT_PLANS, WITH_FORMS, Trial, forms_of, take_fastest
from ops.bench.paper.notes import forms_in_words
from ops.bench.paper.peer import Prompt
from ops.bench.paper.rig import Rig
from ops.bench.paper.scene import Scene
from ops.bench.paper.script import Pattern, Script
from ops.bench.paper.scripted import Asked, ScriptedRows
from ops.bench.paper.timing import Timing


class Slow:
    """A rig on which each form takes a given time, and every trial as long again."""

    def __init__(self, seconds: dict[Any, float]) -> None:
        self.taken: Any = None
        bundle = SimpleNamespace(vocab_size=99, partition=SimpleNamespace(exits=(1, 2)))
        self.edge = SimpleNamespace(
            speculate=self.take, upload_after=self.take, rungs=(0, 1), bundle=bundle, peers={NAIVE: None}
        )
        self.measured: list[Any] = []
        self.trials: dict[str, Trial] = {}
        self._seconds = seconds

    def take(self, form: Any) -> None:
        self.taken = form

    async def measure(self, name: str, prompt: Prompt, new_tokens: int, script: Script | None) -> Any:
        assert name in WITH_FORMS
        self.trials[name] = Trial(prompt, new_tokens, script)
        self.measured.append(self.taken)
        return SimpleNamespace(total_s=self._seconds[self.taken])


def trial() -> Trial:
    return Trial(Prompt("w1", (1,)), 4, None)


@pytest.mark.parametrize("fastest", [0, 1])
async def test_the_fastest_form_stays(fastest: int) -> None:
    rig = Slow({fastest: 1.0, 1 - fastest: 1.5})
    said = await take_fastest(cast("Rig", rig), CE_COLLM, [trial(), trial()], lambda _: None)
    assert said == f"states of stage {fastest + 1} go up"
    assert rig.taken == fastest
    assert rig.measured == [0, 1, 0, 1], "in turn, so that a slow moment hits no form alone"


async def test_every_way_to_draft_is_tried() -> None:
    rig = Slow({plan: 1.0 if plan.longest == 16 else 2.0 for plan in DRAFT_PLANS})
    said = await take_fastest(cast("Rig", rig), SELF_SPECULATION, [trial()], lambda _: None)
    assert set(rig.measured) == set(DRAFT_PLANS)
    assert rig.taken.longest == 16
    assert said == str(rig.taken)


async def tuned(prompt_tokens: int, new_tokens: int) -> tuple[dict[str, str], dict[str, Trial]]:
    """A scripted rig's forms, and what they were tried on."""
    rig = Slow(dict.fromkeys((*DRAFT_PLANS, 0, 1), 1.0))
    rows = ScriptedRows(cast("Rig", rig), new_tokens=100, naive_stride=1, seed=0, tell=lambda _: None)
    prompt = Prompt("words", tuple(range(prompt_tokens)))
    answer = Timing(tuple(range(100)), 1.0, 0.0, 0.0, 1, 1)
    forms = await rows.tune(Asked([prompt], [answer], {}), Pattern(0.25, 0.5, 0.5), new_tokens)
    return forms, rig.trials


async def test_a_trial_has_the_shares_of_a_whole_answer() -> None:
    _, trials = await tuned(20, 16)
    for trial in trials.values():
        assert trial.script is not None
        assert trial.new_tokens == len(trial.script.text) == 16
        assert trial.script.request_rate == pytest.approx(0.25)
        assert trial.script.confirmed == pytest.approx(0.5)


async def test_a_long_prompts_way_up_alone_does_not_choose_whose_states_go_up() -> None:
    _, trials = await tuned(380, 16)
    assert trials[SELF_SPECULATION].new_tokens == 16
    assert trials[CE_COLLM].new_tokens == 38


async def test_without_trials_all_forms_stay() -> None:
    assert await tuned(20, 0) == ({}, {})


def test_forms_have_words_of_their_own() -> None:
    edge = cast("Any", Slow({}).edge)
    assert len(forms_of(edge, SELF_SPECULATION)) == len(DRAFT_PLANS)
    assert len(forms_of(edge, CE_COLLM)) == 2


def test_the_notes_say_which_form_was_taken_how_often() -> None:
    scenes = [Scene("table", Link(3, 30), scripted=True, forms={CE_COLLM: form}) for form in ("a", "b", "a")]
    scenes.append(Scene("untuned", Link(3, 30), scripted=True))
    assert forms_in_words(scenes) == [
        f"{CE_COLLM}, the fastest of its forms: a (2 of 3 tables); b (1 of 3 tables)"
    ]
