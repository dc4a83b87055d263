"""`bench heads` at a tiny size: answers by whole heads and by the cheap ways are compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edge_agent.constraint import Unconstrained
from ops.bench.heads.cost import HeadShape, measure_head
from ops.bench.heads.outcome import TextPair, failures, report_of
from ops.bench.heads.skipping import Skipping, try_skipping
from ops.bench.heads.texts import Answerer, Exits, Unsure
from ops.bench.random_llama import LlamaShape, random_bundle
from ops.quality.question import Question
from shared.wire.messages import Sampling

SHAPE = LlamaShape(64, 128, 4, (1, 2), 320)
ANSWER_TOKENS = 6
FREE = Question((3, 4, 5), Unconstrained, ANSWER_TOKENS)


class EvenTokens(Unconstrained):
    """A grammar of a few tokens, which sometimes forces one."""

    def __init__(self) -> None:
        self._length = 0

    def allowed(self) -> list[int]:
        return [8] if self._length % 3 == 1 else list(range(10, 40, 2))

    def accept(self, token: int) -> None:
        self._length += 1


@pytest.fixture(scope="module")
def answerer(tmp_path_factory: pytest.TempPathFactory) -> Answerer:
    bundle = random_bundle(SHAPE, tmp_path_factory.mktemp("heads") / "bundle")
    return Answerer(bundle, Exits((0.6, 0.5), (1.0, 0.8), ("max_probability",) * 2))


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=0.9, seed=4)], ids=["greedy", "seeded"]
)
@pytest.mark.parametrize("constraint", [Unconstrained, EvenTokens])
def test_texts_are_equal_whichever_way_tokens_are_drawn(answerer: Answerer, sampling, constraint):
    questions = [replace(FREE, prompt=(seed, 4, 5), constraint=constraint) for seed in range(4)]
    whole = answerer.by_whole_heads(questions, sampling)
    cheap = answerer.by_choosers(questions, sampling)
    assert cheap.texts == whole.texts
    assert [len(text) for text in cheap.texts] == [ANSWER_TOKENS] * 4
    assert (cheap.forced, cheap.decided) == ((8, 16) if constraint is EvenTokens else (0, 24))
    way = "few" if constraint is EvenTokens else "whole" if sampling.temperature else "screen"
    assert cheap.ways[way] > 0


def test_the_report_counts_what_changed_and_the_bench_fails_by_it(answerer: Answerer):
    cost = measure_head(HeadShape(320, 64, torch.float32, 6), 1)
    whole, cheap = answerer.by_whole_heads([FREE]), answerer.by_choosers([FREE])
    equal = TextPair("free", whole, cheap)
    assert failures([cost], [equal]) == []
    report = report_of([cost], [equal], {})
    assert report.summary["heads_texts_changed"] == report.summary["heads_draws_changed"] == 0.0
    assert len(report.rows) == 1

    spoilt = TextPair("free", whole, replace(cheap, texts=[[1]]))
    cost.changed = 2
    assert failures([cost], [spoilt]) == ["320 × 64 float32: 2 draws changed", "free: 1 texts changed"]


def test_skipping_is_judged_by_places_that_did_not_make_the_rule():
    made = [Unsure(0.5, last_is_sure=True), Unsure(0.2, last_is_sure=False)]
    tried = [Unsure(0.4, last_is_sure=False), Unsure(0.4, last_is_sure=True)]
    unsure = [each for pair in zip(made, tried, strict=True) for each in pair]
    assert try_skipping(unsure) == Skipping(places=2, saved=1.0, lost=0.5)


def test_the_command_runs_every_part(tmp_path: Path):
    from typer.testing import CliRunner

    from ops.cli import app

    done = CliRunner().invoke(app, ["bench", "heads", "--quick", "--json", str(tmp_path / "heads.json")])
    assert done.exit_code == 0, done.output
    assert "heads_texts_changed 0" in done.output
    assert (tmp_path / "heads.json").stat().st_size > 0
