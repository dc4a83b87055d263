"""The packaged home model, through the whole installation: the unsplit model's text, and actions."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from edge_agent.home.home import load_home
from edge_agent.service import DEMO_HOME
from edge_agent.task import HomeActionTask
from shared.bundles import bundle_path
from shared.model.bundle import Bundle
from shared.model.manifest import CLOUD_FILE, EDGE_FILE
from shared.model.weights import read_all
from tests.conftest import make_broker
from tests.integration.conftest import Install
from tests.servers import RedisServer

PROMPTS = [
    "turn on the kitchen lights",
    "dim the bedroom lamp to 30 percent",
    "close all the blinds upstairs",
    "set the living room to 21 degrees",
    "is the garage door open?",
    "turn off the tv and the hallway light",
    "tell me a joke",
    "open the sauna",
]
MAX_NEW_TOKENS = 64


class Unsplit:
    """The home model put together again from both halves of its bundle."""

    def __init__(self, bundle: Bundle) -> None:
        config = AutoConfig.for_model(**bundle.manifest.config)
        self.model = AutoModelForCausalLM.from_config(config).eval().float()
        edge, cloud = read_all(bundle.path / EDGE_FILE), read_all(bundle.path / CLOUD_FILE)
        weights = {f"model.{name}": value for name, value in (edge | cloud).items() if "layers." in name}
        weights["model.embed_tokens.weight"] = edge["embed.weight"]
        weights["model.norm.weight"] = cloud["norm.weight"]
        weights["lm_head.weight"] = cloud["lm_head.weight"]
        self.model.load_state_dict(weights)
        self.task = HomeActionTask(bundle, load_home(DEMO_HOME))
        self.stop = list(bundle.eos_token_ids)

    def generate(self, prompt: str) -> str:
        ids = self.task.encode(prompt)
        with torch.inference_mode():
            out = self.model.generate(
                torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
                max_new_tokens=MAX_NEW_TOKENS,
                do_sample=False,
                eos_token_id=self.stop,
                pad_token_id=self.stop[0],
                prefix_allowed_tokens_fn=lambda _, so_far: self._allowed(prompt, so_far[len(ids) :].tolist()),
            )
        return self.task.decode(out[0, len(ids) :].tolist())

    def _allowed(self, prompt: str, written: list[int]) -> list[int]:
        """What the grammar leaves after `written`, for transformers' own constrained generation."""
        constraint = self.task.constraint(prompt)
        for token in written:
            constraint.accept(token)
        return list(constraint.allowed() or self.stop)


@pytest.fixture(scope="module")
def unsplit() -> Unsplit:
    return Unsplit(Bundle.open(bundle_path("home")))


@pytest.mark.parametrize(("codec", "workers"), [("fp32", 1), ("fp32", 2), ("fp32", 4), ("fp16", 2)])
@pytest.mark.parametrize("kind", ["embedded", "mosquitto+redis"])
async def test_with_every_token_from_the_cloud_the_text_is_the_unsplit_models(
    kind: str, codec: str, workers: int, install: Install, unsplit: Unsplit, tmp_path: Path
):
    expected = [unsplit.generate(prompt) for prompt in PROMPTS]
    with ExitStack() as servers:
        server = servers.enter_context(make_broker(kind.split("+", maxsplit=1)[0], tmp_path / "broker"))
        given = {"edge__codec": codec}
        if kind.endswith("redis"):
            given["worker__redis_url"] = servers.enter_context(RedisServer(tmp_path / "redis")).url
        async with install(server, "home", workers=workers, **given) as home:
            answers = await home.ask_all(PROMPTS, threshold=1.0, max_new_tokens=MAX_NEW_TOKENS)
    assert [answer["output"] for answer in answers] == expected
    for answer in answers:
        assert set(answer["rungs"]) == {"cloud", "forced"}


async def test_a_home_request_becomes_home_assistants_action(install: Install, embedded_server):
    async with install(embedded_server, "home", workers=1) as home:
        answer = await home.ask("turn on the kitchen lights")
        refused = await home.ask("tell me a joke")
    assert answer["action"] == {"intent": "HassTurnOn", "slots": {"area": "Kitchen", "domain": "light"}}
    assert answer["text"]
    assert answer["degraded"] is False
    assert sum(answer["rungs"].values()) == len(answer["tokens"])
    assert refused["action"]["error"] == "not_a_command"


async def test_int8_states_lead_to_the_same_actions(install: Install, unsplit: Unsplit, embedded_server):
    async with install(embedded_server, "home", workers=1, edge__codec="int8") as home:
        answers = await home.ask_all(PROMPTS, threshold=1.0)
    expected = [unsplit.task.read(prompt, unsplit.generate(prompt)).action for prompt in PROMPTS]
    same = sum(answer["action"] == action for answer, action in zip(answers, expected, strict=True))
    assert same >= len(PROMPTS) - 1  # int8 is lossy: one close call may fall the other way
