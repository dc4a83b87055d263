"""A tiny model's bundle beside its unsplit reference, and whole installations of real processes."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from broker.connect import transport_for
from edge_agent.request import Request
from edge_agent.task import ChatTask
from ops.device_client import DeviceClient
from ops.prepare import prepare
from ops.readiness import Readiness
from ops.stack import Stack
from shared.config import Settings, load
from shared.model.bundle import Bundle
from shared.model.sampling import GREEDY, draw
from shared.wire.ids import new_id
from shared.wire.messages import Sampling
from tests.conftest import make_broker
from tests.parity.cases import VOCAB
from tests.parity.checkpoints import save_checkpoint
from tests.servers import EmbeddedServer, ServerProcess

READY_TIMEOUT_S = 90.0
ANSWER_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Reference:
    """A bundle and the unsplit model that it was cut from."""

    bundle: Bundle
    model: Any

    def generate(self, prompt: str, max_new_tokens: int, sampling: Sampling = GREEDY) -> str:
        """The unsplit model's text."""
        task = ChatTask(self.bundle)
        ids = task.encode(prompt)
        with torch.inference_mode():
            if sampling.temperature > 0.0:
                return task.decode(self._drawn(ids, max_new_tokens, sampling))
            out = self.model.generate(torch.tensor([ids]), max_new_tokens=max_new_tokens, do_sample=False)
        return task.decode([token for token in out[0, len(ids) :].tolist() if token != 2])

    def _drawn(self, ids: list[int], max_new_tokens: int, sampling: Sampling) -> list[int]:
        """Tokens drawn from the unsplit model's logits, the whole text read anew for each."""
        text = list(ids)
        while len(text) < len(ids) + max_new_tokens:
            logits = self.model(torch.tensor([text]), use_cache=False).logits[0, -1]
            token = draw(logits, sampling, len(text)).token
            if token in self.bundle.eos_token_ids:
                break
            text.append(token)
        return text[len(ids) :]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Six random Llama layers with exits after two and four."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.set_num_threads(1)
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.2,  # large, so that no two tokens are nearly as likely
    )
    model = LlamaForCausalLM(config).eval()
    checkpoint = save_checkpoint(model, folder / "checkpoint")
    return Reference(prepare(checkpoint, [2, 4], None, folder / "bundle", name="tiny"), model)


@pytest.fixture(scope="session")
def endless(tiny: Reference, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The tiny model without a stop token: its answers are as long as they may be."""
    folder = tmp_path_factory.mktemp("endless")
    checkpoint = Path(shutil.copytree(tiny.bundle.path.parent / "checkpoint", folder / "checkpoint"))
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((checkpoint / name).read_text())
        (checkpoint / name).write_text(json.dumps({**settings, "eos_token_id": None}))
    return Reference(prepare(checkpoint, [2, 4], None, folder / "bundle", name="endless"), tiny.model)


@dataclass
class Installation:
    """Running processes and a device among them."""

    stack: Stack
    client: DeviceClient
    readiness: Readiness

    async def ask(self, prompt: str, **wishes: Any) -> dict[str, Any]:
        answer = await self.client.ask(Request(prompt, **wishes), ANSWER_TIMEOUT_S)
        assert "error" not in answer, answer
        return answer

    async def ask_all(self, prompts: list[str], **wishes: Any) -> list[dict[str, Any]]:
        return list(await asyncio.gather(*(self.ask(prompt, **wishes) for prompt in prompts)))

    async def ready(self, workers: int) -> None:
        assert await self.readiness.wait(edges=1, workers=workers, timeout_s=READY_TIMEOUT_S)


Install = Callable[..., AbstractAsyncContextManager[Installation]]


def settings_for(server: ServerProcess, bundle: Path | str, **given: Any) -> Settings:
    """Settings of an installation at a test's broker; nothing comes from the machine's own."""
    return load(
        {
            "broker.port": server.port,
            "general.bundle": str(bundle),
            "general.log_level": "error",
            "edge.codec": "fp32",
            # A loaded machine must not look like a broken one; faults have tests of their own.
            "edge.step_deadline_s": 20.0,
            "edge.open_deadline_s": 20.0,
            "edge.deadline_s": 60.0,
            **{key.replace("__", "."): value for key, value in given.items()},
        },
        environ={},
    )


@pytest.fixture
def home_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """The home's own bus."""
    with EmbeddedServer(tmp_path / "home") as server:
        yield server


@pytest.fixture
def cloud_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """The cloud's bus."""
    with make_broker("mosquitto", tmp_path / "cloud") as server:
        yield server


@pytest.fixture
def install() -> Install:
    """Start an edge and workers as processes at a broker; all are gone at the end."""

    @asynccontextmanager
    async def installed(
        server: ServerProcess, bundle: Path | str, *, workers: int, **given: Any
    ) -> AsyncIterator[Installation]:
        settings = settings_for(server, bundle, **given)
        stack = Stack(settings, workers=workers, own_broker=False, restart=False)
        try:
            stack.start_all()
            transport = transport_for(replace(settings.broker), new_id("test-"), None)
            async with transport:
                client = DeviceClient(transport, tenant=settings.general.tenant, device="panel")
                installation = Installation(stack, client, Readiness(transport, settings.general.tenant))
                await installation.ready(workers)
                yield installation
        finally:
            await stack.stop()

    return installed
