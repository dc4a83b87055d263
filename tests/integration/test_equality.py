"""With threshold 1.0 on every exit the text is the unsplit model's, token for token."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edge_agent.task import ChatTask
from tests.conftest import make_broker
from tests.integration.conftest import Install, Reference
from tests.servers import RedisServer

PROMPTS = [
    "turn on the kitchen lights",
    "what is the temperature in the bedroom",
    "close the garage door",
    "dim the lamp",
    "is anybody home? " * 8,
    "x",
    "set the heating to 21 degrees and close the blinds",
    "good night",
]
NEW_TOKENS = 24


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("kind", ["embedded", "mosquitto+redis"])
async def test_eight_sessions_at_once_get_the_unsplit_models_texts(
    kind: str, workers: int, install: Install, tiny: Reference, tmp_path: Path
):
    expected = [tiny.generate(prompt, NEW_TOKENS) for prompt in PROMPTS]
    with ExitStack() as servers:
        server = servers.enter_context(make_broker(kind.split("+", maxsplit=1)[0], tmp_path / "broker"))
        given: dict[str, Any] = {"edge__lookahead": 0, "edge__upload": "lazy"}
        if kind.endswith("redis"):
            given["worker__redis_url"] = servers.enter_context(RedisServer(tmp_path / "redis")).url
        async with install(server, tiny.bundle.path, workers=workers, **given) as home:
            answers = await home.ask_all(PROMPTS, threshold=1.0, max_new_tokens=NEW_TOKENS)
    assert [answer["output"] for answer in answers] == expected
    assert not any(answer["degraded"] for answer in answers)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        assert set(answer["rungs"]) == {"cloud"}
        # Every position went up: nothing was left out, and repeated was only what was late on a busy machine.
        # The last token has no successor, unless that was the stop token.
        positions = len(ChatTask(tiny.bundle).encode(prompt)) + len(answer["tokens"]) - 1
        positions += answer["finish_reason"] == "stop"
        assert positions <= answer["cloud"]["uploaded_tokens"] <= positions + 8
    served = {answer["cloud"]["worker"] for answer in answers}
    assert len(served) == workers
