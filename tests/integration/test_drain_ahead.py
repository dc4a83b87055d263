"""Workers that leave one by one while edges draft ahead over a slow link: no text notices."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import Any

import pytest

from ops.faults.proxy import Weather
from tests.integration.conftest import Install, Installation, Reference
from tests.integration.far import far_away, outputs
from tests.integration.restarting import restart
from tests.servers import ServerProcess

WORKERS = 3
LOOKAHEAD = 8
NEW_TOKENS = 24
# A round trip of 50 ms between each process and the broker.
FAR = Weather(0.025)
PROMPTS = ["turn on the kitchen lights", "good night", "is anybody home? " * 20, "x"]
# The random model's exits are that sure of some tokens.
LAX = 0.1
WISHES: dict[str, dict[str, Any]] = {
    "exact": {"mode": "exact"},
    "collaborative, drawn": {"threshold": LAX, "temperature": 0.7, "seed": 5},
}


@pytest.mark.parametrize(
    ("own_broker", "mode"),
    [("embedded", "exact"), ("mosquitto", "collaborative, drawn")],
    indirect=["own_broker"],
)
async def test_workers_that_restart_one_by_one_change_no_text_of_an_edge_that_drafts_ahead(
    install: Install, endless: Reference, own_broker: ServerProcess, mode: str
):
    ask = {"max_new_tokens": NEW_TOKENS, **WISHES[mode]}
    async with far_away(install, own_broker, endless.bundle.path, FAR, workers=WORKERS) as home:
        expected = outputs(await home.ask_all(PROMPTS, lookahead=0, **ask))
        over = asyncio.Event()
        asked = [asyncio.create_task(ask_until(home, prompt, over, ask)) for prompt in PROMPTS]
        for number in range(1, WORKERS + 1):
            await restart(home, f"worker-{number}")
        over.set()
        answers = await asyncio.gather(*asked)
    for each, right in zip(answers, expected, strict=True):
        assert outputs(each) == [right] * len(each)
    assert not any(answer["degraded"] for answer in chain(*answers))
    assert any(answer["cloud"]["discarded"] for answer in chain(*answers)), "no draft was taken back"
    assert any(len(workers_of(answer)) > 1 for answer in chain(*answers)), "no answer changed its worker"


async def ask_until(
    home: Installation, prompt: str, over: asyncio.Event, ask: dict[str, Any]
) -> list[dict[str, Any]]:
    """Ask again and again, drafting ahead."""
    answers = []
    while not over.is_set():
        answers.append(await home.ask(prompt, lookahead=LOOKAHEAD, **ask))
    return answers


def workers_of(answer: dict[str, Any]) -> set[str]:
    """Who answered its questions."""
    return {token["worker"] for token in answer["tokens"]} - {""}
