"""The rows on the scripted model: texts first, then every peer over the same scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from random import Random
from typing import Final

from ops.bench.link_proxy import Link
from ops.bench.paper.edge import (
    CE_COLLM,
    CLOUD_ONLY,
    EDGE_ONLY,
    INCREMENTAL,
    LOOKAHEAD,
    NAIVE,
    OURS,
    SELF_SPECULATION,
)
from ops.bench.paper.forms import OF_THE_LINK, WITH_FORMS, Trial, take_fastest
from ops.bench.paper.model import words_of
from ops.bench.paper.peer import Prompt
from ops.bench.paper.rig import Rig
from ops.bench.paper.rivals import Rivals
from ops.bench.paper.scene import Scene
from ops.bench.paper.script import Pattern, Script, write_script
from ops.bench.paper.split_peers import NaiveSplit
from ops.bench.paper.timing import Timing

Tell = Callable[[str], None]

# Rows that don't look at exits: measured once for all patterns.
_WITHOUT_EXITS: Final = (NAIVE, INCREMENTAL)
# Where a form is about how states go up, it is tried on a token for so many of the prompt's at least: else
# the prompt's own way up would choose it, which an answer goes once.
_PROMPT_PER_TRIED: Final = 10


@dataclass(frozen=True)
class Asked:
    """Prompts of one length with the unsplit model's answers.

    Attributes:
        prompts: what was asked.
        answers: the cloud's own, the whole model at one place: texts and times.
        without_exits: rows that no script changes.
    """

    prompts: list[Prompt]
    answers: list[Timing]
    without_exits: dict[str, list[Timing]]

    @property
    def texts(self) -> list[tuple[int, ...]]:
        """The unsplit model's."""
        return [timing.tokens for timing in self.answers]

    def again(self, count: int) -> Asked:
        """So many prompts, these over and over; without the rows beside them."""
        prompts = list(islice(cycle(self.prompts), count))
        return Asked(prompts, list(islice(cycle(self.answers), count)), {})


class ScriptedRows:
    """Measures scenes on a rig whose model is scripted.

    Args:
        rig: runs.
        new_tokens: of each answer.
        naive_stride: see `NaiveSplit`.
        seed: of prompts and scripts.
        tell: is told what is being measured.
    """

    def __init__(self, rig: Rig, *, new_tokens: int, naive_stride: int, seed: int, tell: Tell) -> None:
        self._rig = rig
        self._new_tokens = new_tokens
        self._seed = seed
        self._tell = tell
        naive = rig.edge.peers[NAIVE]
        if isinstance(naive, NaiveSplit):
            naive.stride = naive_stride

    async def warm_up(self) -> None:
        """Let every path run once before it is timed."""
        prompt = self.prompts(4, 1)[0]
        text = (await self._rig.measure(CLOUD_ONLY, prompt, 4, None)).tokens
        script = self._scripts([prompt], [text], Pattern(0.5, 0.5, 1.0))[0]
        for name in self.names():
            await self._rig.measure(name, prompt, 4, script)

    def names(self) -> list[str]:
        """All rows, in the table's order."""
        return list(self._rig.edge.peers)

    def prompts(self, length: int, count: int) -> list[Prompt]:
        """Random words."""
        rng = Random(f"{self._seed} {length}")  # noqa: S311  not for secrets
        vocab = self._rig.edge.bundle.vocab_size
        drawn = (tuple(rng.randrange(vocab) for _ in range(length)) for _ in range(count))
        return [Prompt(words_of(ids), ids) for ids in drawn]

    async def ask(self, length: int, count: int, *, without_exits: bool = True) -> Asked:
        """The unsplit model's answers, and the rows that no script changes."""
        prompts = self.prompts(length, count)
        answers = [await self._measure(CLOUD_ONLY, prompt, None) for prompt in prompts]
        asked = Asked(prompts, answers, {})
        if without_exits:
            # The script tells the naive split which text its sampled steps belong to, and nothing else.
            scripts = self._scripts(prompts, asked.texts, Pattern(1.0, 0.0, 1.0))
            for name in _WITHOUT_EXITS:
                pairs = zip(prompts, scripts, strict=True)
                asked.without_exits[name] = [await self._measure(name, *pair) for pair in pairs]
        return asked

    async def scene(self, title: str, asked: Asked, pattern: Pattern) -> Scene:
        """Every row over one pattern, on the link of now."""
        scene = self._begin(title, asked)
        scene.rows = {CLOUD_ONLY: asked.answers, SELF_SPECULATION: [], **asked.without_exits}
        names = [SELF_SPECULATION, CE_COLLM, *OURS, EDGE_ONLY]
        await self._fill(scene, names, asked, pattern)
        return scene

    async def rivals(self, title: str, asked: Asked, pattern: Pattern, pairs: int) -> Rivals:
        """CE-CoLLM's row and ours, one behind the other and in turn the first, on the link of now.

        Args:
            title: of the table.
            asked: the prompts; they come again until there are enough pairs, each time with another script.
            pattern: the exits'.
            pairs: how many, at least one for each prompt.
        """
        many = asked.again(max(pairs, len(asked.prompts)))
        rivals = Rivals(self._begin(title, many))
        both = zip(many.prompts, self._scripts_of(many, pattern), strict=True)
        for index, (prompt, script) in enumerate(both):
            for name in (CE_COLLM, LOOKAHEAD) if index % 2 == 0 else (LOOKAHEAD, CE_COLLM):
                await self._measure_rival(rivals, name, prompt, script)
        return rivals

    async def tune(
        self, asked: Asked, pattern: Pattern, new_tokens: int, names: Sequence[str] = WITH_FORMS
    ) -> dict[str, str]:
        """Give the rivals that have a choice their best form, on the link of now.

        Args:
            asked: the first of its prompts is tried.
            pattern: the exits'.
            new_tokens: of a trial, or some more behind a long prompt; 0: nothing is tried, the forms stay.
            names: of the rivals.

        Returns:
            For each of them, which form it was.
        """
        if not new_tokens:
            return {}
        more = max(new_tokens, len(asked.prompts[0].ids) // _PROMPT_PER_TRIED)
        found = {}
        for name in names:
            trial = self._trial(asked, pattern, more if name in OF_THE_LINK else new_tokens)
            found[name] = await take_fastest(self._rig, name, [trial], self._tell)
        return found

    def _trial(self, asked: Asked, pattern: Pattern, new_tokens: int) -> Trial:
        """With a script of its own: the shares have to be the pattern's in these few tokens too."""
        prompt, text = asked.prompts[0], asked.texts[0][:new_tokens]
        return Trial(prompt, len(text), self._scripts([prompt], [text], pattern)[0])

    def _begin(self, title: str, asked: Asked) -> Scene:
        return Scene(title, self._rig.link, scripted=True, texts=asked.texts)

    async def _fill(self, scene: Scene, names: Sequence[str], asked: Asked, pattern: Pattern) -> None:
        for prompt, script in zip(asked.prompts, self._scripts_of(asked, pattern), strict=True):
            for name in names:
                scene.add(name, await self._measure(name, prompt, script))

    async def _measure_rival(self, rivals: Rivals, name: str, prompt: Prompt, script: Script) -> None:
        self._say(name, prompt)
        if name == LOOKAHEAD:
            timing, timeline = await self._rig.watch(name, prompt, self._new_tokens, script)
            rivals.timelines.append(timeline)
        else:
            timing = await self._rig.measure(name, prompt, self._new_tokens, script)
        rivals.scene.add(name, timing)

    async def _measure(self, name: str, prompt: Prompt, script: Script | None) -> Timing:
        self._say(name, prompt)
        return await self._rig.measure(name, prompt, self._new_tokens, script)

    def _say(self, name: str, prompt: Prompt) -> None:
        self._tell(f"{name}: {len(prompt.ids)} tokens of prompt, {self._rig.link}")

    def _scripts_of(self, asked: Asked, pattern: Pattern) -> list[Script]:
        """What the exits say of the asked texts."""
        return self._scripts(asked.prompts, asked.texts, pattern)

    def _scripts(
        self, prompts: Sequence[Prompt], texts: Sequence[tuple[int, ...]], pattern: Pattern
    ) -> list[Script]:
        bundle = self._rig.edge.bundle
        return [
            write_script(
                len(prompt.ids),
                text,
                pattern,
                exits=len(bundle.partition.exits),
                vocab=bundle.vocab_size,
                seed=self._seed + index,
            )
            for index, (prompt, text) in enumerate(zip(prompts, texts, strict=True))
        ]


@contextmanager
def on_link(rig: Rig, link: Link) -> Iterator[None]:
    """Another link for a while."""
    before = rig.link
    rig.set_link(link)
    try:
        yield
    finally:
        rig.set_link(before)
