"""The oracle: what an answer has to be follows from its request and its degraded positions alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from edge_agent.request import Request
from ops.faults.bench import FaultBench
from ops.faults.oracle import Expected
from ops.faults.questions import KINDS, question
from ops.faults.tiny_model import random_model

TOKENS = 16


def as_answer(expected: Expected) -> dict[str, Any]:
    tokens = [{"text": said.text, "rung": said.rung, "degraded": said.degraded} for said in expected.said]
    degraded = any(token["degraded"] for token in tokens)
    return {
        "tokens": tokens,
        "output": expected.output,
        "finish_reason": expected.finish_reason,
        "degraded": degraded,
    }


async def test_without_degraded_positions_it_is_the_unsplit_model_s_text(bench: FaultBench) -> None:
    model: LlamaForCausalLM = random_model(3).eval()
    tokenizer = bench.bundle.tokenizer()
    for number in range(0, 12, len(KINDS)):
        request = question(number, TOKENS)
        ids = tokenizer.encode(request.prompt)
        with torch.inference_mode():
            out = model.generate(torch.tensor([ids]), max_new_tokens=TOKENS, do_sample=False)
        text = tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True)
        assert (await bench.oracle.expected(request)).output == text


@pytest.mark.parametrize("kind", range(len(KINDS)))
async def test_a_right_answer_is_right_with_any_pattern_of_degraded_positions(
    bench: FaultBench, kind: int
) -> None:
    request = question(kind, TOKENS)
    for degraded in ((), (3,), (0, 1, 2), tuple(range(TOKENS))):
        expected = await bench.oracle.expected(request, degraded)
        assert await bench.oracle.differs(request, as_answer(expected)) == ""


@pytest.mark.parametrize("what", ["text", "rung", "lost", "more", "undisclosed", "claimed", "finish"])
async def test_a_wrong_answer_is_named(bench: FaultBench, what: str) -> None:
    request = question(0, TOKENS)
    expected = await bench.oracle.expected(request, {5} if what == "undisclosed" else ())
    answer = copy.deepcopy(as_answer(expected))
    match what:
        case "text":
            answer["tokens"][7]["text"] = " w1"
        case "rung":
            answer["tokens"][7]["rung"] = "edge-2"
        case "lost":
            del answer["tokens"][7]
        case "more":
            answer["tokens"].append(answer["tokens"][-1])
        case "undisclosed":
            answer["tokens"][5]["degraded"] = False
        case "claimed":
            answer["degraded"] = True
        case "finish":
            answer["finish_reason"] = "stop"
    assert await bench.oracle.differs(request, answer)


async def test_a_degraded_stop_token_is_found_though_no_token_shows_it(bench: FaultBench) -> None:
    """The edge's own guess may be the stop token; the answer then ends there, and says degraded."""
    for number in range(60):
        request = question(number, TOKENS)
        whole = await bench.oracle.expected(request)
        for place in range(len(whole.said)):
            cut = await bench.oracle.expected(request, {place})
            if len(cut.said) == place and cut.finish_reason == "stop":
                answer = as_answer(cut) | {"degraded": True}
                assert await bench.oracle.differs(request, answer) == ""
                assert await bench.oracle.differs(request, answer | {"degraded": False})
                return
    pytest.fail("no question has an edge that would stop where the cloud goes on: choose others")


def test_names_of_requests_do_not_change_their_text() -> None:
    one, other = Request("w3", id="a", stream=True), Request("w3", id="b")
    from ops.faults.oracle import same_text

    assert same_text(one) == same_text(other)
