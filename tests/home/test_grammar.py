"""The grammar lets every right answer through, in the very tokens that the model was taught."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from edge_agent.home.grammar import ActionGrammar
from edge_agent.home.shortlist import Shortlister
from ops.home.dataset import build
from ops.home.sample import Sample
from ops.home.samples import SampleMaker
from ops.home.templates import Grammar
from shared.bundles import bundle_path
from shared.model.bundle import Bundle

DRAWN = 1_500


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    maker = SampleMaker(Grammar(), seed=8)
    return [maker.draw() for _ in range(DRAWN)]


def walks(tokenizer: PreTrainedTokenizerFast, samples: list[Sample]) -> tuple[list[Sample], float]:
    """The samples whose answers are not allowed, and the share of forced tokens in the others."""
    grammar = ActionGrammar(
        lambda text: tokenizer.encode(text, add_special_tokens=False), [int(tokenizer.eos_token_id)]
    )
    barred, forced, total = [], 0, 0
    for sample in samples:
        paths = grammar.constraint(sample.request, Shortlister(sample.home).pick(sample.request))
        for token in [*tokenizer.encode(sample.answer, add_special_tokens=False), tokenizer.eos_token_id]:
            allowed = paths.allowed()
            if token not in allowed:
                barred.append(sample)
                break
            forced += len(allowed) == 1
            total += 1
            paths.accept(token)
    return barred, forced / total


def test_the_shipped_tokenizer_writes_answers_along_the_grammars_paths(samples: list[Sample]) -> None:
    barred, forced = walks(Bundle.open(bundle_path("home")).tokenizer(), samples)
    # A slip of the finger may take a name out of the shortlist; that is the noise's fault.
    assert len(barred) <= DRAWN / 500, [(each.request, each.answer) for each in barred]
    assert forced > 0.3


def test_so_does_one_that_has_learned_next_to_nothing(samples: list[Sample]) -> None:
    tokenizer, _ = build(300, seed=2)
    barred, _ = walks(tokenizer, samples)
    assert len(barred) <= DRAWN / 500, [(each.request, each.answer) for each in barred]
