"""Mode `exact`: the text is the unsplit model's, greedy and drawn, whatever codec serves the other modes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edge_agent.service import _exact_codec
from shared.config import Settings, load
from shared.tensors.codec import codec_named
from shared.wire.messages import Sampling
from tests.integration.conftest import Install, Installation, Reference
from tests.servers import ServerProcess

PROMPTS = ["turn on the kitchen lights", "good night", "is anybody home? " * 20, "x"]
NEW_TOKENS = 20
SAMPLINGS = {
    "greedy": Sampling(),
    "drawn": Sampling(temperature=0.7, seed=3),
    "drawn from the likely ones": Sampling(temperature=0.7, top_k=40, top_p=0.9, seed=11),
}


def wishes(sampling: Sampling) -> dict[str, Any]:
    drawn = {name: getattr(sampling, name) for name in ("temperature", "top_k", "top_p", "seed")}
    return {"mode": "exact", "max_new_tokens": NEW_TOKENS, **drawn}


@pytest.mark.parametrize("lookahead", [0, 16])
async def test_exact_text_is_the_unsplit_models_greedy_and_drawn(
    install: Install, tiny: Reference, embedded_server: ServerProcess, lookahead: int
):
    texts = set()
    async with install(embedded_server, tiny.bundle.path, workers=1) as home:
        for name, sampling in SAMPLINGS.items():
            answers = await home.ask_all(PROMPTS, lookahead=lookahead, **wishes(sampling))
            expected = [tiny.generate(prompt, NEW_TOKENS, sampling) for prompt in PROMPTS]
            assert [answer["output"] for answer in answers] == expected, name
            assert not any(answer["degraded"] for answer in answers)
            texts.add(tuple(expected))
    assert len(texts) == len(SAMPLINGS)


async def test_exact_text_is_the_unsplit_models_though_the_codec_of_the_other_modes_is_lossy(
    install: Install, tiny: Reference, embedded_server: ServerProcess
):
    async with install(embedded_server, tiny.bundle.path, workers=1, edge__codec="int4") as home:
        for sampling in SAMPLINGS.values():
            answers = await home.ask_all(PROMPTS, **wishes(sampling))
            assert [answer["output"] for answer in answers] == [
                tiny.generate(prompt, NEW_TOKENS, sampling) for prompt in PROMPTS
            ]
        await states_travel_as_the_mode_and_the_request_say(home, tiny)


async def states_travel_as_the_mode_and_the_request_say(home: Installation, tiny: Reference) -> None:
    for wish, codec in (
        ({"mode": "exact"}, "fp32"),
        ({"mode": "exact", "codec": "auto"}, "fp32"),
        ({"mode": "exact", "codec": "fp16"}, "fp16"),
        ({"threshold": 1.0}, "int4"),
        ({"threshold": 1.0, "codec": "int8"}, "int8"),
    ):
        answer = await home.ask(PROMPTS[2], max_new_tokens=2, **wish)
        width = codec_named(codec).row_bytes(tiny.bundle.hidden_size)
        per_row = answer["cloud"]["uplink_bytes"] / answer["cloud"]["uploaded_tokens"]
        assert width <= per_row < 1.2 * width, wish  # the rest is what each step says about its rows


@pytest.mark.parametrize(
    ("given", "codec"),
    [
        ({}, "fp32"),
        ({"edge.mode": "exact"}, "fp32"),
        ({"edge.codec": "int8"}, "fp32"),
        ({"edge.mode": "exact", "edge.codec": "auto"}, "fp32"),
        ({"edge.mode": "exact", "edge.codec": "fp16"}, "fp16"),
        ({"edge.mode": "exact", "edge.codec": "int8"}, "int8"),
    ],
)
def test_the_exact_modes_codec_loses_nothing_unless_one_is_set_together_with_that_mode(
    given: dict[str, object], codec: str
):
    settings: Settings = load(given, environ={})
    assert _exact_codec(settings) == codec
    assert _exact_codec(replace(settings, sources={})) == "fp32"
