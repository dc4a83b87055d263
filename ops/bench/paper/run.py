"""`antiphon bench paper`: CE-CoLLM's table in its shape, on two models, in one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from ops.bench.link_proxy import Link
from ops.bench.paper.confirmed import Confirmed, home_confirmed
from ops.bench.paper.edge import (
    BLOCKING,
    CE_COLLM,
    CLOUD_ONLY,
    EXACT,
    INCREMENTAL,
    LOOKAHEAD,
    NAIVE,
    SELF_SPECULATION,
)
from ops.bench.paper.forms import OF_THE_LINK, WITH_FORMS, Trial, take_fastest
from ops.bench.paper.model import scripted_bundle
from ops.bench.paper.notes import NOTES, forms_in_words
from ops.bench.paper.peer import Prompt
from ops.bench.paper.plan import MAIN_THRESHOLD, PAPER_LINK, PAPER_RATES, PaperPlan, pattern
from ops.bench.paper.rig import Rig
from ops.bench.paper.rivals import Rivals, spent_table
from ops.bench.paper.scene import COLUMNS, Scene, together
from ops.bench.paper.scripted import Asked, ScriptedRows, Tell, on_link
from ops.bench.paper.time_spent import EXCERPT_LINES
from ops.bench.paper.timing import Timing
from ops.bench.report import BenchReport, BenchTable
from ops.demo.requests import REQUESTS
from ops.quality.question import HOME_NEW_TOKENS
from shared.bundles import bundle_path
from shared.model.bundle import Bundle


class Outcome(NamedTuple):
    """A run.

    Attributes:
        report: for people and machines.
        broken: promised equalities of texts that don't hold; empty: all do.
    """

    report: BenchReport
    broken: list[str]


class _Scenes:
    """What a run collects."""

    def __init__(self) -> None:
        self.main: dict[tuple[float, int], Scene] = {}
        self.others: dict[float, Rivals] = {}
        self.home: Scene | None = None
        self.broker = ""

    @property
    def all(self) -> list[Scene]:
        """In the report's order."""
        home = [] if self.home is None else [self.home]
        return [*self.main.values(), *(rivals.scene for rivals in self.others.values()), *home]

    def tables(self, lines: int | None) -> list[BenchTable]:
        """In the report's order; of the slow links' time-lines so many lines, or all."""
        rivals = list(self.others.values())
        home = [] if self.home is None else [self.home.table()]
        return [
            *(scene.table() for scene in self.main.values()),
            *(each.table() for each in rivals),
            *home,
            *spent_table(rivals),
            *(each.timeline(lines) for each in rivals),
        ]


async def run_paper(plan: PaperPlan, tell: Tell, *, timeline: bool = False) -> Outcome:
    """Measure everything.

    Args:
        plan: how much.
        tell: is told what is being measured.
        timeline: show the time-lines of answers over the slow links whole, not in excerpts.
    """
    confirmed = confirmed_shares(plan, tell)
    scenes = _Scenes()
    await _scripted(plan, confirmed, scenes, tell)
    if plan.home_requests:
        scenes.home = await _home(plan, tell)
    broken = [words for scene in scenes.all for words in scene.broken()]
    lines = None if timeline else EXCERPT_LINES
    return Outcome(_report(plan, confirmed, scenes, broken, lines), broken)


def confirmed_shares(plan: PaperPlan, tell: Tell) -> dict[float, Confirmed]:
    """The home model's share of confirmed guesses at each of the paper's thresholds."""
    if plan.confirmed is not None:
        return dict.fromkeys(PAPER_RATES, Confirmed(plan.confirmed, 0, 0))
    tell("home model: how often the cloud confirms an unsure guess")
    return home_confirmed(tuple(PAPER_RATES), plan.confirm_requests)


async def _scripted(
    plan: PaperPlan, confirmed: Mapping[float, Confirmed], scenes: _Scenes, tell: Tell
) -> None:
    tell(f"{plan.shape.name}: its bundle")
    bundle = scripted_bundle(plan.shape, plan.cache)
    thresholds = tuple(bundle.thresholds)
    async with Rig(bundle.path, plan.weights, thresholds, PAPER_LINK, embedded=plan.embedded) as rig:
        scenes.broker = rig.broker_name
        rows = ScriptedRows(
            rig, new_tokens=plan.new_tokens, naive_stride=plan.naive_stride, seed=plan.seed, tell=tell
        )
        await rows.warm_up()
        for length in filter(None, (plan.short_tokens, plan.long_tokens)):
            asked = await rows.ask(length, plan.prompts)
            await _at_paper_link(plan, confirmed, scenes, rows, asked, length)
            if length == plan.short_tokens:
                await _at_other_links(plan, confirmed, scenes, rig, rows, asked)


async def _at_paper_link(
    plan: PaperPlan,
    confirmed: Mapping[float, Confirmed],
    scenes: _Scenes,
    rows: ScriptedRows,
    asked: Asked,
    length: int,
) -> None:
    for threshold in PAPER_RATES:
        if length == plan.long_tokens and threshold != MAIN_THRESHOLD:
            continue  # minutes for what the short prompts show too
        shares = pattern(threshold, confirmed[threshold].share)
        forms = await rows.tune(asked, shares, plan.tune_tokens)
        title = f"{plan.scripted_title(threshold, shares, length)}; {PAPER_LINK}"
        scene = scenes.main[threshold, length] = await rows.scene(title, asked, shares)
        scene.forms = forms


async def _at_other_links(
    plan: PaperPlan,
    confirmed: Mapping[float, Confirmed],
    scenes: _Scenes,
    rig: Rig,
    rows: ScriptedRows,
    asked: Asked,
) -> None:
    shares = pattern(MAIN_THRESHOLD, confirmed[MAIN_THRESHOLD].share)
    for rtt_ms in plan.other_rtts_ms:
        link = Link(rtt_ms, PAPER_LINK.mbit_s)
        with on_link(rig, link):
            forms = await rows.tune(asked, shares, plan.tune_tokens, OF_THE_LINK)
            title = f"{plan.scripted_title(MAIN_THRESHOLD, shares, plan.short_tokens)}; {link}"
            rivals = scenes.others[rtt_ms] = await rows.rivals(title, asked, shares, plan.pairs)
            rivals.scene.forms = forms


async def _home(plan: PaperPlan, tell: Tell) -> Scene:
    """Every row on the packaged model with its own exits, in the demo's home."""
    bundle = Bundle.open(bundle_path("home"))
    thresholds = tuple(bundle.thresholds)
    title = f"home, its own exits at θ {', '.join(f'{value:g}' for value in thresholds)}; {PAPER_LINK}"
    scene = Scene(title, PAPER_LINK, scripted=False)
    async with Rig(bundle.path, "float32", thresholds, PAPER_LINK, embedded=plan.embedded) as rig:
        prompts = _home_prompts(rig, plan.home_requests)
        for name in rig.edge.peers:  # so that every path has run once
            await rig.measure(name, prompts[0], HOME_NEW_TOKENS, None)
        if plan.tune_tokens:
            trials = [Trial(prompt, HOME_NEW_TOKENS, None) for prompt in prompts]
            scene.forms = {name: await take_fastest(rig, name, trials, tell) for name in WITH_FORMS}
        for prompt in prompts:
            tell(f"home: {prompt.words}")
            for name in rig.edge.peers:
                timing = _spelled(rig, await rig.measure(name, prompt, HOME_NEW_TOKENS, None))
                scene.add(name, timing)
                if name == CLOUD_ONLY:
                    scene.texts.append(timing.tokens)
    return scene


def _spelled(rig: Rig, timing: Timing) -> Timing:
    """With the tokens that the tokenizer makes of the text: ours tells no others."""
    return replace(timing, tokens=rig.edge.read(rig.edge.task.decode(timing.tokens)))


def _home_prompts(rig: Rig, count: int) -> list[Prompt]:
    task = rig.edge.task
    words = [request for request, _ in REQUESTS][:count]
    return [
        Prompt(text, tuple(task.encode(text)), lambda text=text: task.constraint(text))  # type: ignore[misc]
        for text in words
    ]


def _report(
    plan: PaperPlan,
    confirmed: Mapping[float, Confirmed],
    scenes: _Scenes,
    broken: list[str],
    lines: int | None,
) -> BenchReport:
    first, *others = scenes.tables(lines)
    settings = plan.settings() | {
        "link": str(PAPER_LINK),
        "broker": scenes.broker,
        "forms": {scene.title: scene.forms for scene in scenes.all},
        "confirmed": {str(threshold): share._asdict() for threshold, share in confirmed.items()},
        "texts_equal": not broken,
        "answers": {scene.title: scene.answers() for scene in scenes.all},
    }
    shares = [
        f"θ {threshold:g}: {share.unsure} unsure guesses among {share.tokens} tokens of the home model"
        for threshold, share in confirmed.items()
        if share.tokens
    ]
    notes = [*NOTES, *shares, *forms_in_words(scenes.all), *(f"BROKEN: {words}" for words in broken)]
    summary = _summary(plan, scenes)
    return BenchReport("paper", settings, COLUMNS, first.rows, summary, notes, others, first.title)


def _summary(plan: PaperPlan, scenes: _Scenes) -> dict[str, float]:
    """The named figures; `notes.SUMMARY` says over which prompts."""
    lengths = [scene for (threshold, _), scene in scenes.main.items() if threshold == MAIN_THRESHOLD]
    found = _ratios("", lengths)
    found["ours_over_cecollm_3ms"] = lengths[0].ratio(LOOKAHEAD, CE_COLLM)
    for (threshold, length), scene in scenes.main.items():
        rate = f"{PAPER_RATES[threshold] * 100:.1f}".replace(".", "_")
        found |= _ratios(f"_{rate}_{'short' if length == plan.short_tokens else 'long'}", [scene])
    for rtt_ms, rivals in scenes.others.items():
        found[f"ours_over_cecollm_{rtt_ms:g}ms"] = rivals.scene.ratio(LOOKAHEAD, CE_COLLM)
    if scenes.home is not None:
        found["home_ours_over_cloud_3ms"] = scenes.home.ratio(LOOKAHEAD, CLOUD_ONLY)
    return {name: value for name, value in found.items() if value is not None}


def _ratios(kind: str, scenes: Sequence[Scene]) -> dict[str, float | None]:
    """Every row beside the cloud-only one, over all answers of some scenes together."""
    pairs = {
        "ours_over_cloud": (LOOKAHEAD, CLOUD_ONLY),
        "naive_over_cloud": (NAIVE, CLOUD_ONLY),
        "incremental_over_cloud": (INCREMENTAL, CLOUD_ONLY),
        "selfspec_over_cloud": (SELF_SPECULATION, CLOUD_ONLY),
        "cecollm_over_cloud": (CE_COLLM, CLOUD_ONLY),
        "blocking_over_cloud": (BLOCKING, CLOUD_ONLY),
        "exact_over_cloud": (EXACT, CLOUD_ONLY),
        "ours_over_cecollm": (LOOKAHEAD, CE_COLLM),
        "ours_over_selfspec": (LOOKAHEAD, SELF_SPECULATION),
    }
    return {f"{name}_3ms{kind}": together(scenes, *pair) for name, pair in pairs.items()}
