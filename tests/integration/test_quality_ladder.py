"""Answers decoded in one process are those of an installation, and cost what they cost there."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from edge_agent.home.home import load_home
from edge_agent.rungs import CLOUD_RUNG, FORCED_RUNG, edge_rung
from edge_agent.service import DEMO_HOME
from edge_agent.task import ChatTask
from ops.quality.costs import costs_of, used
from ops.quality.forest import Forest
from ops.quality.ladder import Ladder
from ops.quality.policy import Policy, Reading, Trace, exit_alone, unsplit_policy
from ops.quality.question import home_questions, text_questions
from ops.quality.sources import Request, Tasks
from ops.quality.stopwatch import Stopwatch
from shared.bundles import bundle_path
from shared.model.bundle import Bundle
from shared.tensors.codec import codec_named
from tests.integration.conftest import Install, Reference

PROMPTS = ["turn on the kitchen lights", "close the garage door", "x", "good night", "is anybody home? " * 6]
HOME_PROMPTS = ["turn on the kitchen lights", "tell me a joke", "turn off the tv and the hallway light"]
NEW_TOKENS = 16
EXITS = 2


def same_threshold(value: float) -> Policy:
    return Policy((value,) * EXITS, Reading(("max_probability",) * EXITS, (1.0,) * EXITS))


def tiny_forest(tiny: Reference, codec: str = "fp32") -> Forest:
    questions = text_questions(tiny.bundle, PROMPTS, prompt_tokens=512, new_tokens=NEW_TOKENS)
    return Forest(Ladder(tiny.bundle, codec_named(codec)), questions)


def rungs_of(trace: Trace) -> Counter[str]:
    names = [*map(edge_rung, range(EXITS)), CLOUD_RUNG]
    return Counter(names[decision.rung] for decision in trace.decisions)


async def test_texts_and_costs_are_those_of_the_processes(install: Install, tiny: Reference, embedded_server):
    """Same outputs, rungs, requests, uploaded positions, at a threshold where every rung has its share."""
    threshold = 0.1
    (traces,) = tiny_forest(tiny).decode([same_threshold(threshold)])
    costs = costs_of(tiny.bundle, codec_named("fp32"))
    frugal = {"edge__lookahead": 0, "edge__upload": "lazy"}
    async with install(embedded_server, tiny.bundle.path, workers=1, **frugal) as home:
        answers = await home.ask_all(PROMPTS, threshold=threshold, max_new_tokens=NEW_TOKENS)
    task = ChatTask(tiny.bundle)
    seen: Counter[str] = Counter()
    for trace, answer in zip(traces, answers, strict=True):
        assert task.decode(trace.tokens) == answer["output"]
        # The stop token is decided, but no part of the answer.
        kept = rungs_of(trace)
        assert not Counter(answer["rungs"]) - kept
        assert kept.total() - len(answer["tokens"]) == (answer["finish_reason"] == "stop")
        use = used([trace], costs)
        assert (use.requests, use.cloud_rows) == (
            answer["cloud"]["requests"],
            answer["cloud"]["uploaded_tokens"],
        )
        seen += kept
    assert set(seen) == {"edge-1", "edge-2", "cloud"}


def test_with_threshold_one_the_text_is_the_full_models(tiny: Reference):
    full, never = tiny_forest(tiny).decode([unsplit_policy(EXITS), same_threshold(1.0)])
    task = ChatTask(tiny.bundle)
    for prompt, unsplit, split in zip(PROMPTS, full, never, strict=True):
        assert task.decode(unsplit.tokens) == tiny.generate(prompt, NEW_TOKENS)
        assert split.tokens == unsplit.tokens
        assert split.agreement == 1.0
        assert set(rungs_of(split)) == {CLOUD_RUNG}


def test_an_order_of_policies_changes_no_answer(tiny: Reference):
    """Places are shared between policies; whoever comes first, each text is its own."""
    policies = [same_threshold(value) for value in (0.05, 0.1, 0.2)] + [exit_alone(0, EXITS)]
    together = tiny_forest(tiny).decode(policies)
    for index, policy in reversed(list(enumerate(policies))):
        (alone,) = tiny_forest(tiny).decode([policy])
        assert [trace.tokens for trace in alone] == [trace.tokens for trace in together[index]]


def test_an_exit_alone_asks_nobody_and_differs_from_the_full_model(tiny: Reference):
    forest = tiny_forest(tiny)
    for index in range(EXITS):
        (traces,) = forest.decode([exit_alone(index, EXITS)])
        use = used(traces, costs_of(tiny.bundle, codec_named("fp32")))
        assert (use.requests, use.cloud_flops, use.uplink_bytes) == (0, 0, 0)
        assert all(set(rungs_of(trace)) == {edge_rung(index)} for trace in traces)
        assert any(trace.agreement < 1.0 for trace in traces)


def test_answers_on_the_timed_engines_are_the_same(tiny: Reference):
    forest = tiny_forest(tiny, "fp16")
    policies = [same_threshold(0.1), same_threshold(1.0)]
    full, *others = forest.decode([unsplit_policy(EXITS), *policies])
    watch = Stopwatch(forest.ladder)
    for line, tree in enumerate(forest.trees):
        assert watch.alone(tree.question).tokens == full[line].tokens
        for policy, traces in zip(policies, others, strict=True):
            assert asyncio.run(watch.together(tree.question, policy)).tokens == traces[line].tokens
    shares = [times.cloud_share for times in watch.compare([forest.trees[0].question], policies, rounds=2)]
    assert all(share.least <= share.median <= share.most for share in shares)
    assert 0.0 <= shares[0].median < shares[1].median


@pytest.mark.parametrize("threshold", [0.9, 1.0])
async def test_forced_tokens_are_counted_apart(threshold: float, install: Install, embedded_server):
    """Shares, rates and agreement are of the other tokens; both sides count the same."""
    bundle, home = Bundle.open(bundle_path("home")), load_home(DEMO_HOME)
    requests = [Request(home, prompt, ()) for prompt in HOME_PROMPTS]
    questions = home_questions(bundle, Tasks(bundle), requests)
    reading = Reading(tuple(bundle.measures), tuple(bundle.temperatures))
    forest = Forest(Ladder(bundle, codec_named("fp32")), questions)
    (traces,) = forest.decode([Policy((threshold,) * EXITS, reading)])
    async with install(embedded_server, "home", workers=1) as installed:
        answers = await installed.ask_all(HOME_PROMPTS, threshold=threshold)
    for trace, answer in zip(traces, answers, strict=True):
        assert bundle.tokenizer().decode(trace.tokens) == answer["output"]
        stopped = answer["finish_reason"] == "stop"
        assert trace.forced + len(trace.decisions) == len(answer["tokens"]) + stopped
        assert 0 <= trace.forced - answer["rungs"][FORCED_RUNG] <= stopped
        assert answer["cloud"]["requests"] == rungs_of(trace)[CLOUD_RUNG]
