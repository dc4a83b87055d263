"""`antiphon bench wan`: the rows of `bench paper` over many links, and where they cross."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, NamedTuple

from ops.bench.link_proxy import Link
from ops.bench.paper.edge import CE_COLLM, CLOUD_ONLY, LOOKAHEAD
from ops.bench.paper.forms import OF_THE_LINK, WITH_FORMS
from ops.bench.paper.model import TINY, scripted_bundle
from ops.bench.paper.notes import COLUMNS, SCRIPTED, forms_in_words
from ops.bench.paper.plan import MAIN_THRESHOLD, PaperPlan, pattern
from ops.bench.paper.rig import Rig
from ops.bench.paper.run import confirmed_shares
from ops.bench.paper.scene import Scene
from ops.bench.paper.scripted import ScriptedRows, Tell, on_link
from ops.bench.report import BenchReport, BenchTable, Row

RTTS_MS: Final = (1.0, 3.0, 10.0, 20.0, 50.0, 100.0, 200.0)
RATES_MBIT_S: Final = (5.0, 30.0, 1000.0)
# Few enough that all links fit into ten minutes on two cores.
NEW_TOKENS: Final = 24
# Half an answer: every link has CE-CoLLM's two forms tried, about a minute in all.
_TUNE_TOKENS: Final = 12
_NAIVE_STRIDE: Final = 12


@dataclass(frozen=True)
class WanPlan:
    """Sizes of a run.

    Attributes:
        paper: what the model and its rows are.
        rtts_ms, rates_mbit_s: the links are all their pairs.
    """

    paper: PaperPlan
    rtts_ms: tuple[float, ...] = RTTS_MS
    rates_mbit_s: tuple[float, ...] = RATES_MBIT_S


def wan_plan(paper: PaperPlan) -> WanPlan:
    """The default sizes."""
    return WanPlan(
        replace(paper, new_tokens=NEW_TOKENS, naive_stride=_NAIVE_STRIDE, tune_tokens=_TUNE_TOKENS)
    )


def quick_wan_plan(paper: PaperPlan) -> WanPlan:
    """A smoke's sizes."""
    small = replace(paper, shape=TINY, new_tokens=8, naive_stride=4, tune_tokens=4)
    return WanPlan(small, (1.0, 20.0), (30.0,))


class Curve(NamedTuple):
    """A row over the round trip, at one rate.

    Attributes:
        name: of the row. mbit_s: the rate.
        points: round trips in ms, rising, and the time of an answer in s.
    """

    name: str
    mbit_s: float
    points: tuple[tuple[float, float], ...]


class Crossing(NamedTuple):
    """The round trip at which one row begins to be slower than another.

    Attributes:
        name: it overtakes `other` at `rtt_ms`, on the way to longer round trips.
    """

    name: str
    other: str
    mbit_s: float
    rtt_ms: float


@dataclass
class WanOutcome:
    """A run: what `run_wan` returns."""

    report: BenchReport
    curves: list[Curve]
    crossings: list[Crossing]
    broken: list[str] = field(default_factory=list)


async def run_wan(plan: WanPlan, tell: Tell) -> WanOutcome:
    """Measure every row on every link.

    Args:
        plan: how much.
        tell: is told what is being measured.
    """
    paper = plan.paper
    share = confirmed_shares(paper, tell)[MAIN_THRESHOLD].share
    tell(f"{paper.shape.name}: its bundle")
    bundle = scripted_bundle(paper.shape, paper.cache)
    first = Link(plan.rtts_ms[0], plan.rates_mbit_s[0])
    scenes: list[Scene] = []
    async with Rig(
        bundle.path, paper.weights, tuple(bundle.thresholds), first, embedded=paper.embedded
    ) as rig:
        rows = ScriptedRows(
            rig, new_tokens=paper.new_tokens, naive_stride=paper.naive_stride, seed=paper.seed, tell=tell
        )
        await rows.warm_up()
        for mbit_s in plan.rates_mbit_s:
            for rtt_ms in plan.rtts_ms:
                with on_link(rig, Link(rtt_ms, mbit_s)):
                    before = scenes[-1].forms if scenes else {}
                    scenes.append(await _scene(paper, rows, str(rig.link), share, before))
    return _outcome(plan, share, scenes)


async def _scene(
    paper: PaperPlan, rows: ScriptedRows, link: str, share: float, before: dict[str, str]
) -> Scene:
    """Every row on the link of now.

    All forms are tried on the first one, twice as long; then those whose choice hangs on the link.
    """
    shares = pattern(MAIN_THRESHOLD, share)
    asked = await rows.ask(paper.short_tokens, paper.prompts)
    names, times = (OF_THE_LINK, 1) if before else (WITH_FORMS, 2)
    forms = before | await rows.tune(asked, shares, times * paper.tune_tokens, names)
    scene = await rows.scene(f"{link}, SCRIPTED, {share:.1%} confirmed", asked, shares)
    scene.forms = forms
    return scene


def curves_of(scenes: Sequence[Scene]) -> list[Curve]:
    """The rows' times over the round trip."""
    points: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for scene in scenes:
        for name in scene.rows:
            key = (name, scene.link.mbit_s)
            points.setdefault(key, []).append((scene.link.rtt_ms, scene.total_s(name)))
    return [Curve(name, mbit_s, tuple(sorted(found))) for (name, mbit_s), found in points.items()]


def crossings_of(curves: Sequence[Curve], pairs: Sequence[tuple[str, str]]) -> list[Crossing]:
    """Where a pair's order changes between two links; interpolated in the logarithms of both."""
    by_key = {(curve.name, curve.mbit_s): curve for curve in curves}
    found = []
    for mbit_s in dict.fromkeys(curve.mbit_s for curve in curves):
        for name, other in pairs:
            ours, theirs = by_key.get((name, mbit_s)), by_key.get((other, mbit_s))
            if ours is not None and theirs is not None:
                found += _crossings(ours, theirs)
    return found


def _crossings(ours: Curve, theirs: Curve) -> list[Crossing]:
    gaps = [
        (math.log(rtt_ms), math.log(time_s / other_s))
        for (rtt_ms, time_s), (_, other_s) in zip(ours.points, theirs.points, strict=True)
    ]
    found = []
    for (left, before), (right, after) in pairwise(gaps):
        if before * after < 0:
            at = math.exp(left + (right - left) * before / (before - after))
            slower, faster = (ours, theirs) if after > 0 else (theirs, ours)
            found.append(Crossing(slower.name, faster.name, ours.mbit_s, at))
    return found


def _outcome(plan: WanPlan, share: float, scenes: list[Scene]) -> WanOutcome:
    curves = curves_of(scenes)
    names = list(scenes[0].rows)
    pairs = [(name, CLOUD_ONLY) for name in names if name != CLOUD_ONLY] + [(LOOKAHEAD, CE_COLLM)]
    crossings = crossings_of(curves, pairs)
    broken = [words for scene in scenes for words in scene.broken()]
    shares = pattern(MAIN_THRESHOLD, share)
    title = plan.paper.scripted_title(MAIN_THRESHOLD, shares, plan.paper.short_tokens)
    settings = plan.paper.settings() | {
        "rtts_ms": plan.rtts_ms,
        "rates_mbit_s": plan.rates_mbit_s,
        "prompt_tokens": plan.paper.short_tokens,
        "confirmed": share,
        "forms": {str(scene.link): scene.forms for scene in scenes},
        "texts_equal": not broken,
        "crossings": [crossing._asdict() for crossing in crossings],
    }
    notes = ["Milliseconds of an answer; behind each the share of the cloud-only row's.", SCRIPTED, COLUMNS]
    notes += forms_in_words(scenes) + [f"BROKEN: {words}" for words in broken]
    tables = [*_crossings_table(crossings), *(scene.table() for scene in scenes)]
    columns = ["link", *names]
    rows = [_row(scene, names) for scene in scenes]
    report = BenchReport("wan", settings, columns, rows, _summary(scenes), notes, tables, title)
    return WanOutcome(report, curves, crossings, broken)


def _row(scene: Scene, names: Sequence[str]) -> Row:
    found: dict[str, Any] = {"link": str(scene.link)}
    for name in names:
        ratio = scene.ratio(name, CLOUD_ONLY)
        found[name] = f"{scene.total_s(name) * 1e3:.0f}" + ("" if ratio is None else f"  {ratio:.2f}")
    return found


def _crossings_table(crossings: Sequence[Crossing]) -> list[BenchTable]:
    """None where nothing crosses."""
    columns = ("rate", "from ms on", "is slower", "than")
    rows: list[Row] = [
        {
            "rate": f"{crossing.mbit_s:g} Mbit/s",
            "from ms on": crossing.rtt_ms,
            "is slower": crossing.name,
            "than": crossing.other,
        }
        for crossing in crossings
    ]
    title = "crossings: the round trip from which on a row is slower than another"
    return [BenchTable(title, columns, rows)] if rows else []


def _summary(scenes: Sequence[Scene]) -> dict[str, float]:
    found = {}
    for scene in scenes:
        link = f"{scene.link.rtt_ms:g}ms_{scene.link.mbit_s:g}mbit"
        for other, name in ((CLOUD_ONLY, "cloud"), (CE_COLLM, "cecollm")):
            ratio = scene.ratio(LOOKAHEAD, other)
            if ratio is not None:
                found[f"ours_over_{name}_{link}"] = ratio
    return found
