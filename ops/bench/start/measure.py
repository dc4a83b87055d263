"""Starts worker and edge afresh, again and again, and asks for a first token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.connect import transport_for
from edge_agent.request import Request, TokenEvent
from edge_agent.rungs import FORCED_RUNG
from ops.bench.cores import Cores
from ops.bench.installation import ANSWER_TIMEOUT_S, TENANT, bench_settings, broker_server, until_ready
from ops.bench.memory import Memory
from ops.bench.start.launch import launched, phases_of
from ops.bench.start.phases import Phase
from ops.device_client import DeviceClient
from ops.faults.servers import ServerProcess
from ops.readiness import Readiness
from shared.errors import LinkError
from shared.model.bundle import Bundle
from shared.model.manifest import CLOUD_FILE, EDGE_FILE, EXITS_FILE
from shared.wire.ids import new_id

ROLES: Final = ("edge", "worker")
_FILES: Final = {"edge": (EDGE_FILE, EXITS_FILE), "worker": (CLOUD_FILE,)}
_MAX_NEW_TOKENS: Final = 8
_BYTES_PER_MIB: Final = 1 << 20


@dataclass(frozen=True)
class StartCase:
    """One bundle.

    Attributes:
        name: in the table. path: its folder. prompt: what is asked.
        rounds: starts. warm: prompts after the first, each round.
    """

    name: str
    path: Path
    prompt: str
    rounds: int
    warm: int

    def weights_mib(self, role: str) -> float:
        """What a role must hold, as stored."""
        files = Bundle.open(self.path).manifest.files
        return sum(files[name].size_bytes for name in _FILES[role]) / _BYTES_PER_MIB


@dataclass(frozen=True)
class Start:
    """One start of both.

    Attributes:
        ready_s: from each role's launch to its presence.
        launch_to_token_s: from the edge's launch to the first token.
        prompt_to_token_ms: from the first prompt to its first token. warm_ms: of the prompts after it.
        memory: of each role, at the end.
    """

    ready_s: Mapping[str, float]
    launch_to_token_s: float
    prompt_to_token_ms: float
    warm_ms: list[float]
    memory: Mapping[str, Memory]


@dataclass(frozen=True)
class StartResult:
    """All starts of a case, and each role's start taken apart."""

    case: StartCase
    starts: list[Start]
    phases: Mapping[str, list[list[Phase]]]


OnRound = Callable[[str, int], None]


async def measure_start(
    case: StartCase, folder: Path, cores: Cores, *, embedded: bool, on_round: OnRound
) -> StartResult:
    """Start, ask and stop, `case.rounds` times.

    Args:
        case: which bundle.
        folder: for the broker.
        cores: where edge and worker run.
        embedded: use the embedded broker even where Mosquitto is installed.
        on_round: told of the case's name and the round before each.
    """
    starts = []
    phases: dict[str, list[list[Phase]]] = {role: [] for role in ROLES}
    with broker_server(folder / "broker", embedded=embedded) as broker:
        for number in range(case.rounds):
            on_round(case.name, number + 1)
            starts.append(await _start(case, broker, cores))
            for role in ROLES:
                phases[role].append(await asyncio.to_thread(phases_of, role, case.path, cores.edge))
    return StartResult(case, starts, phases)


async def _start(case: StartCase, broker: ServerProcess, cores: Cores) -> Start:
    """Worker first, then the edge: a first token may need both."""
    settings = bench_settings(broker, case.path)
    async with transport_for(settings.broker, new_id("bench-"), None) as transport:
        readiness = Readiness(transport, TENANT)
        client = DeviceClient(transport, tenant=TENANT, device="panel")
        with ExitStack() as stack:
            worker = stack.enter_context(launched(_serve("worker", case, broker), cores.worker))
            await until_ready(readiness, edges=0)
            worker_s = time.monotonic() - worker.at_s
            edge = stack.enter_context(launched(_serve("edge", case, broker), cores.edge))
            await until_ready(readiness)
            edge_s = time.monotonic() - edge.at_s
            first_ms = await _first_token_ms(client, case.prompt)
            launch_to_token_s = edge_s + first_ms / 1e3
            warm_ms = [await _first_token_ms(client, case.prompt) for _ in range(case.warm)]
            memory = {"edge": edge.memory(), "worker": worker.memory()}
    return Start({"edge": edge_s, "worker": worker_s}, launch_to_token_s, first_ms, warm_ms, memory)


def _serve(role: str, case: StartCase, broker: ServerProcess) -> list[str]:
    """The command line of a role."""
    settings = {"general.tenant": TENANT, "edge.deadline_s": "120", "edge.step_deadline_s": "60"}
    options = [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]
    where = ["--host", broker.host, "--port", str(broker.port), "--bundle", str(case.path)]
    return ["--log-level", "error", *options, role, "serve", *where]


async def _first_token_ms(client: DeviceClient, prompt: str) -> float:
    """From a prompt to the first token that was decided: a grammar's forced ones cost nothing.

    Raises:
        LinkError: there was no such token.
    """
    heard_s: list[float] = []

    def on_event(event: TokenEvent) -> None:
        if event.rung and event.rung != FORCED_RUNG:
            heard_s.append(time.monotonic())

    asked_s = time.monotonic()
    request = Request(prompt, stream=True, max_new_tokens=_MAX_NEW_TOKENS)
    answer = await client.ask(request, ANSWER_TIMEOUT_S, on_event)
    if not heard_s:
        raise LinkError(f"the edge decided no token: {answer}")
    return (heard_s[0] - asked_s) * 1e3
