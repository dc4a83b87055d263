"""Runs the split installation and the yardstick in turn, so that a slow moment of the machine hits both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from edge_agent.request import Request
from ops.bench.cores import Cores
from ops.bench.installation import Installation, bench_settings, broker_server, installed
from ops.bench.random_llama import LLAMA_270M, TINY, LlamaShape, random_bundle
from ops.bench.split.unsplit import Decoded, Order, UnsplitProcess
from shared.model.bundle import Bundle

# Lossless, and equal shapes on both sides: the texts must be equal, not nearly.
CODEC: Final = "fp32"
PROMPT: Final = (5, 17, 42, 7, 99, 3, 64, 28)
_MS: Final = 1e3


@dataclass(frozen=True)
class SplitCase:
    """One model to be measured.

    Attributes:
        name: in the table. shape: of the model.
        tokens: of an answer. rounds: answers that are timed, of each side.
    """

    name: str
    shape: LlamaShape
    tokens: int
    rounds: int


CASES: Final = (SplitCase("tiny", TINY, 65, 9), SplitCase("270m", LLAMA_270M, 17, 7))
QUICK_CASES: Final = (
    SplitCase("tiny", TINY, 9, 2),
    SplitCase("270m", LlamaShape(256, 704, 4, (2,), 2048), 5, 1),
)
"""The names stay, the second model shrinks: a smoke test's figures mean nothing."""


@dataclass(frozen=True)
class Round:
    """Both sides once; times in ms per token after the first.

    Attributes:
        split_ms: of the product, by its own clock.
        pieces_ms: of it: `edge` (stages, encoding), `away` (from the ask to its answer),
            `cloud` (of that, the worker's forward and draw).
        unsplit_ms: of the yardstick, the mean over both cores.
        wrong: what is wrong with the text; empty when it is the yardstick's.
    """

    split_ms: float
    pieces_ms: Mapping[str, float]
    unsplit_ms: float
    wrong: str


@dataclass(frozen=True)
class CaseResult:
    """All rounds of a case, and the pieces of the yardstick's token, in ms."""

    case: SplitCase
    rounds: list[Round]
    unsplit_pieces_ms: Mapping[str, float]


OnRound = Callable[[str, int], None]


async def measure_case(
    case: SplitCase, folder: Path, cores: Cores, *, embedded: bool, on_round: OnRound
) -> CaseResult:
    """Make the model, start everything, and compare.

    Args:
        case: what to measure.
        folder: for the model and the broker.
        cores: where edge and worker run.
        embedded: use the embedded broker even where Mosquitto is installed.
        on_round: told of the case's name and the round before each.
    """
    bundle: Bundle = await asyncio.to_thread(random_bundle, case.shape, folder / "bundle", name=case.name)
    with (
        broker_server(folder / "broker", embedded=embedded) as broker,
        UnsplitProcess(bundle.path, CODEC) as unsplit,
    ):
        async with installed(bench_settings(broker, bundle.path, edge__codec=CODEC), cores) as split:
            both = _Both(case, cores, split, unsplit)
            await both.round()  # the first of everything is slower; not counted
            rounds = []
            for number in range(case.rounds):
                on_round(case.name, number + 1)
                rounds.append(await both.round())
            return CaseResult(case, rounds, await both.pieces())


class _Both:
    """The two sides of a case."""

    def __init__(self, case: SplitCase, cores: Cores, split: Installation, unsplit: UnsplitProcess) -> None:
        self._case = case
        self._cores = cores
        self._split = split
        self._unsplit = unsplit

    async def round(self) -> Round:
        """Each side once."""
        answer, short = await self._ask(self._case.tokens), await self._ask(1)
        told = [await self._decode(core) for core in (self._cores.edge, self._cores.worker)]
        return Round(
            _each(answer["timings"], "total_ms", answer["timings"]["first_token_ms"], self._case.tokens),
            self._pieces_of(answer["timings"], short["timings"]),
            median(median(each.token_s) for each in told) * _MS,
            _difference(answer, told[0].ids),
        )

    async def pieces(self) -> dict[str, float]:
        """Of the yardstick's token, and what the split adds to it, in ms."""
        told = await self._decode(self._cores.edge, beside=True)
        return {piece: median(seconds) * _MS for piece, seconds in told.pieces_s.items()}

    async def _ask(self, tokens: int) -> dict[str, Any]:
        prompt = " ".join(f"w{token}" for token in PROMPT)
        return await self._split.ask(
            Request(prompt, mode="collaborative", threshold=1.0, lookahead=0, max_new_tokens=tokens)
        )

    async def _decode(self, core: int | None, *, beside: bool = False) -> Decoded:
        order = Order(list(PROMPT), self._case.tokens, core, beside)
        return await asyncio.to_thread(self._unsplit.decode, order)

    def _pieces_of(self, timings: Mapping[str, float], first: Mapping[str, float]) -> dict[str, float]:
        """Without the first token, which reads the prompt: an answer of one token has the same."""
        names = {"edge": "edge_compute_ms", "away": "cloud_wait_ms", "cloud": "cloud_compute_ms"}
        return {piece: _each(timings, name, first[name], self._case.tokens) for piece, name in names.items()}


def _each(timings: Mapping[str, float], name: str, first_ms: float, tokens: int) -> float:
    """Per token after the first."""
    return (timings[name] - first_ms) / (tokens - 1)


def _difference(answer: Mapping[str, Any], ids: list[int]) -> str:
    """What is wrong with an answer that should be the text `ids`, each token the cloud's."""
    if answer["degraded"] or set(answer["rungs"]) != {"cloud"}:
        return f"not every token is the cloud's: {answer['rungs']} {answer['note']}"
    expected = " ".join(f"w{token}" for token in ids)
    return "" if answer["output"] == expected else f"{answer['output']!r} instead of {expected!r}"
