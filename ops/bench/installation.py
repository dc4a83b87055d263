"""A small real installation for a bench: broker, one worker and one edge as processes, asked over MQTT."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from broker.connect import transport_for
from edge_agent.request import Request
from ops.bench.cores import Cores, Pinned
from ops.device_client import DeviceClient, OnEvent
from ops.faults.servers import EmbeddedServer, MosquittoServer, ServerProcess, find_binary
from ops.readiness import Readiness
from ops.stack import Stack
from shared.config import Settings, load
from shared.errors import LinkError
from shared.wire.ids import new_id

READY_TIMEOUT_S: Final = 120.0
ANSWER_TIMEOUT_S: Final = 300.0
TENANT: Final = "bench"
# A loaded machine must not look like a broken one: nothing here is retried or given up early.
_PATIENT: Final[Mapping[str, object]] = {
    "edge.step_deadline_s": 60.0,
    "edge.open_deadline_s": 60.0,
    "edge.deadline_s": 120.0,
}


def broker_server(folder: Path, *, embedded: bool) -> ServerProcess:
    """Mosquitto where it is installed, unless the embedded broker is asked for."""
    if embedded or find_binary("mosquitto") is None:
        return EmbeddedServer(folder)
    return MosquittoServer(folder)


def bench_settings(broker: ServerProcess, bundle: Path | str, **given: Any) -> Settings:
    """Settings of an installation at a bench's broker; nothing comes from the machine's own.

    Args:
        broker: that runs.
        bundle: a name or a folder.
        given: further settings, `edge__codec="fp32"`.
    """
    return load(
        {
            "broker.host": broker.host,
            "broker.port": broker.port,
            "general.bundle": str(bundle),
            "general.tenant": TENANT,
            "general.log_level": "error",
            **_PATIENT,
            **{key.replace("__", "."): value for key, value in given.items()},
        },
        environ={},
    )


@dataclass(frozen=True)
class Installation:
    """What runs, and a device among it."""

    stack: Stack
    client: DeviceClient

    async def ask(self, request: Request, on_event: OnEvent | None = None) -> dict[str, Any]:
        """The answer's JSON.

        Raises:
            LinkError: none came, or a failure did.
        """
        answer = await self.client.ask(request, ANSWER_TIMEOUT_S, on_event)
        if "error" in answer:
            raise LinkError(f"the edge could not answer: {answer['error']['message']}")
        return answer


@asynccontextmanager
async def installed(settings: Settings, cores: Cores) -> AsyncIterator[Installation]:
    """One worker and one edge, each on its core, ready to be asked; all are gone at the end.

    Raises:
        LinkError: they are not ready in time.
    """
    stack = Stack(settings, workers=1, own_broker=False, restart=False)
    for name, member in stack.members.items():
        member.role = Pinned(member.role, cores.edge if name == "edge" else cores.worker)
    try:
        stack.start_all()
        async with transport_for(settings.broker, new_id("bench-"), None) as transport:
            tenant = settings.general.tenant
            client = DeviceClient(transport, tenant=tenant, device="panel")
            await until_ready(Readiness(transport, tenant))
            yield Installation(stack, client)
    finally:
        await stack.stop()


async def until_ready(readiness: Readiness, *, edges: int = 1, workers: int = 1) -> None:
    """Wait until so many are present.

    Raises:
        LinkError: they are not in time.
    """
    if not await readiness.wait(edges=edges, workers=workers, timeout_s=READY_TIMEOUT_S):
        raise LinkError(f"edge and worker are not ready within {READY_TIMEOUT_S:g} s")
