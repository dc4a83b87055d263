"""Drafting on while the cloud is asked changes no text: over a slow, lossy link, in every mode."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edge_agent.cloud_session import OUT_OF_TIME
from edge_agent.engine import EdgeEngine
from ops.faults.proxy import Weather
from shared.model.loading import load_edge
from shared.tensors.codec import codec_named
from shared.wire.messages import Sampling
from tests.integration.conftest import Install, Reference
from tests.integration.far import far_away, outputs
from tests.servers import ServerProcess

PROMPTS = ["turn on the kitchen lights", "good night", "is anybody home? " * 20, "x"]
NEW_TOKENS = 20
# The random model's exits are that sure of some tokens.
LAX = 0.1
WISHES: dict[str, dict[str, Any]] = {
    "every token asked": {"threshold": 1.0},
    "early exits": {"threshold": LAX},
    "early exits, drawn": {"threshold": LAX, "temperature": 0.7, "seed": 5},
    "exact": {"mode": "exact"},
    "exact, drawn": {"mode": "exact", "temperature": 0.7, "top_p": 0.9, "seed": 11},
}


@pytest.mark.parametrize("weather", [Weather(0.02), Weather(0.01, loss=0.03, copies=2, reorder=0.1)], ids=str)
async def test_the_text_is_the_blocking_text_in_every_mode(
    install: Install, tiny: Reference, embedded_server: ServerProcess, weather: Weather
):
    given = {"edge__step_deadline_s": 2.0, "edge__open_deadline_s": 2.0, "edge__max_attempts": 20}
    drafted = 0
    async with far_away(install, embedded_server, tiny.bundle.path, weather, **given) as home:
        for wishes in WISHES.values():
            ask = {"max_new_tokens": NEW_TOKENS, **wishes}
            blocking = await home.ask_all(PROMPTS, lookahead=0, **ask)
            ahead = [await home.ask(prompt, lookahead=16, **ask) for prompt in PROMPTS]
            assert not any(answer["degraded"] for answer in (*blocking, *ahead))
            assert outputs(ahead) == outputs(blocking)
            drafted += sum(answer["cloud"]["discarded"] for answer in ahead)
    assert drafted > 0


async def test_an_answer_whose_time_is_over_goes_on_with_the_edges_own_guesses_and_no_other_notices(
    install: Install, tiny: Reference, embedded_server: ServerProcess
):
    async with far_away(install, embedded_server, tiny.bundle.path, Weather(0.05)) as home:
        calm = await home.ask(PROMPTS[0], threshold=1.0, max_new_tokens=NEW_TOKENS)
        budget_ms = calm["timings"]["total_ms"] / 3
        hasty = await home.ask(
            PROMPTS[0], threshold=1.0, max_new_tokens=NEW_TOKENS, latency_budget_ms=budget_ms
        )
        after = await home.ask(PROMPTS[1], threshold=1.0, max_new_tokens=NEW_TOKENS)
    assert not calm["degraded"]
    assert hasty["degraded"]
    assert hasty["note"] == OUT_OF_TIME
    assert not after["degraded"]
    degraded = [token["degraded"] for token in hasty["tokens"]]
    assert degraded == sorted(degraded)
    assert hasty["timings"]["total_ms"] < calm["timings"]["total_ms"]


@pytest.mark.parametrize("lengths", [(9, 4), (7, 6), (5, 3), (12, 12)])
async def test_a_session_that_is_rewound_goes_on_like_one_that_never_was_further(
    tiny: Reference, lengths: tuple[int, int]
):
    """Whatever each stage had seen: the second one lags behind, as it does after early exits."""
    text = torch.randint(3, 300, (16,), generator=torch.Generator().manual_seed(4)).tolist()
    engine = EdgeEngine(load_edge(tiny.bundle), codec_named("fp32"), tiny.bundle.hidden_size)
    read, kept = lengths
    try:
        session = engine.open(text[:read], Sampling(), (1.0, 1.0))
        await engine.run_stage(session, 0)
        await engine.run_stage(session, 1)
        session.ids += [7, 8]
        await engine.run_stage(session, 0)
        session.rewind(kept)
        session.ids += text[kept:]
        fresh = engine.open(text, Sampling(), (1.0, 1.0))
        for stage in (0, 1):
            again = await engine.run_stage(session, stage)
            first = await engine.run_stage(fresh, stage)
            assert again.token == first.token
            assert again.confidence == pytest.approx(first.confidence, abs=1e-5)
        assert session.states.frontier == fresh.states.frontier == len(text)
    finally:
        engine.close()


async def test_a_guess_that_is_made_late_is_the_one_that_would_have_been_made_at_once(tiny: Reference):
    text = [5, 17, 42, 7, 99]
    engine = EdgeEngine(load_edge(tiny.bundle), codec_named("fp32"), tiny.bundle.hidden_size)
    try:
        late, at_once = (engine.open(text, Sampling(), (1.0, 1.0)) for _ in range(2))
        for stage in (0, 1):
            await engine.catch_up(late, stage)
            guess = await engine.run_stage(at_once, stage)
        assert await engine.run_stage(late, 1) == guess
        assert late.states.rows(0, 5) == at_once.states.rows(0, 5)
    finally:
        engine.close()


@pytest.mark.parametrize("stage", [0, 1])
async def test_a_stage_whose_text_is_void_stops_between_two_layers_and_can_begin_again(
    tiny: Reference, stage: int
):
    """The cloud has said another token while an edge stage drafts behind the old one."""
    text = torch.randint(3, 300, (12,), generator=torch.Generator().manual_seed(5)).tolist()
    engine = EdgeEngine(load_edge(tiny.bundle), codec_named("fp32"), tiny.bundle.hidden_size)
    seen: list[int] = []
    try:
        session = engine.open(text, Sampling(), (1.0, 1.0))
        for earlier in range(stage):
            await engine.run_stage(session, earlier)
        first_layer = engine.model.stages[stage]._layers[0]

        def contradict(*_: object) -> None:
            seen.append(1)
            session.void = True

        with first_layer.register_forward_hook(contradict):
            assert await engine.run_stage(session, stage) is None
        assert session.caches[stage].frontier == 0
        session.rewind(9)
        session.ids += [3]
        fresh = engine.open(session.ids, Sampling(), (1.0, 1.0))
        for each in (0, 1):
            again, first = [await engine.run_stage(one, each) for one in (session, fresh)]
            assert again is not None
            assert first is not None
            assert again.token == first.token
            assert again.confidence == pytest.approx(first.confidence, abs=1e-5)
    finally:
        engine.close()
    assert len(seen) == 1
