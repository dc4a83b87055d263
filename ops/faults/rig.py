"""An installation to be broken: broker, Redis, workers and edges as real processes, links through proxies.

    device ──────────────┐
    edge ──── proxy ─────┤ broker          each process has a proxy of its own between itself and the
    worker-1 ─ proxy ────┤                 broker, so that a bad link hits exactly whom it should
    worker-2 ─ proxy ────┘
       └────── Redis ────┘

The device's line is always good: what is lost between edge and worker must not be confused with token
events, which travel at QoS 0 and may be lost by design.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from broker.connect import transport_for
from broker.embedded.packets import Packet, Publish
from broker.group_reader import singles
from broker.transport import Incoming
from edge_agent.request import Request
from ops.faults.clock import ServerClock
from ops.faults.device import FaultDevice
from ops.faults.proxy import ChaosProxy, Direction, Weather
from ops.faults.servers import (
    EmbeddedServer,
    MosquittoServer,
    RedisServer,
    ServerProcess,
    find_binary,
)
from ops.faults.wired_edge import ask_by_wire, serve_wired_edge
from ops.readiness import Readiness
from ops.stack import STOP_TIMEOUT_S, Stack
from shared.config import EdgeSection, Settings, load
from shared.errors import LinkError
from shared.wire.ids import new_id

EDGE: Final = "edge"
TENANT: Final = "home"
READY_TIMEOUT_S: Final = 60.0
_RETRY_S: Final = 0.1

Hear = Callable[[Direction, str, bytes], Awaitable[None]]
"""Called with direction, topic and payload; what it awaits holds the message."""


@dataclass(frozen=True)
class Plan:
    """What a rig is made of.

    Attributes:
        workers: how many.
        redis: whether they share a Redis, where it is installed; else each keeps its logs for itself.
        deadline_s: how long a token may wait for the cloud.
        session_ttl_s: after which sessions of an edge that went away are orphans.
        embedded: use the embedded broker even where Mosquitto is installed.
        clock: the broker shows a time that can be set; needs libfaketime.
    """

    workers: int = 2
    redis: bool = True
    deadline_s: float = 3.0
    session_ttl_s: float = 600.0
    embedded: bool = False
    clock: bool = False

    @property
    def patience(self) -> dict[str, float]:
        """Settings of the edge: its deadlines, in the proportions that they are shipped in."""
        shipped = EdgeSection()
        scale = self.deadline_s / shipped.deadline_s
        return {
            "deadline_s": self.deadline_s,
            "step_deadline_s": shipped.step_deadline_s * scale,
            "open_deadline_s": shipped.open_deadline_s * scale,
            "max_attempts": shipped.max_attempts,
        }


class Rig:
    """One installation, from `async with` to its end.

    Args:
        folder: for logs and sockets.
        bundle: that edge and workers serve. other_bundle: of the same name, with other weights.
        plan: what it is made of.
        seed: of the proxies' dice.

    Attributes:
        broker: the real broker. redis: the real Redis, if there is one.
        stack: edge and workers, by name.
        proxies: each member's way to the broker, by name.
        device: asks over MQTT.
        clock: what the broker takes for the time of day, if the plan says so.
        spared: the worker that no fault may end or stop; empty: none.
        calm_mib: each member's memory after its first answer, before any fault.
    """

    def __init__(
        self,
        folder: Path,
        bundle: Path,
        plan: Plan | None = None,
        *,
        other_bundle: Path | None = None,
        seed: int = 0,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.other_bundle = other_bundle
        self.plan = plan or Plan()
        self.broker = _broker(folder, embedded=self.plan.embedded)
        has_redis = self.plan.redis and find_binary("redis-server") is not None
        self.redis = RedisServer(folder / "redis") if has_redis else None
        self.clock = ServerClock(folder / "clock")
        self.spared = ""
        self.calm_mib: dict[str, float] = {}
        self.bundle = bundle
        self.stack = Stack(
            self.settings(self.broker.port), workers=self.plan.workers, own_broker=False, restart=False
        )
        self.proxies = {
            name: ChaosProxy(self.broker.host, self.broker.port, seed=seed + place)
            for place, name in enumerate(self.stack.members)
        }
        self._short = tempfile.TemporaryDirectory(prefix="rig-")
        self._exit = AsyncExitStack()
        self._exit.callback(self._short.cleanup)

    @property
    def workers(self) -> list[str]:
        """Their names."""
        return [name for name in self.stack.members if name != EDGE]

    @property
    def mortals(self) -> list[str]:
        """The workers that a fault may end."""
        return [name for name in self.workers if name != self.spared]

    def settings(self, broker_port: int, bundle: Path | None = None) -> Settings:
        """Of a member; nothing comes from the machine's own files and variables."""
        return load(
            {
                "broker.port": broker_port,
                "general.bundle": str(bundle or self.bundle),
                "general.tenant": TENANT,
                "general.log_level": "error",
                "edge.codec": "fp32",
                **{f"edge.{name}": value for name, value in self.plan.patience.items()},
                "worker.session_ttl_s": self.plan.session_ttl_s,
                "worker.redis_url": self.redis.url if self.redis else "",
            },
            environ={},
            folder=self.folder,
        )

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit.aclose()

    async def _start(self) -> None:
        if self.plan.clock:
            self.broker.extra_environment = self.clock.environment()
        for server in filter(None, (self.broker, self.redis)):
            self._exit.enter_context(server)
        for name, proxy in self.proxies.items():
            await proxy.start()
            self._exit.push_async_callback(proxy.stop)
            self.set_bundle(name, self.bundle)
        self._exit.push_async_callback(self._stop_members)
        self.stack.start_all()
        settings = self.settings(self.broker.port)
        transport = await self._exit.enter_async_context(transport_for(settings.broker, new_id("device-")))
        self._transport = transport
        self.device = FaultDevice(transport, tenant=TENANT, device="panel")
        await self.mend()
        self.calm_mib = self.peaks_mib()

    def set_bundle(self, name: str, bundle: Path | None = None) -> None:
        """What a member serves from its next start on; None: what all do."""
        member = self.stack.members[name]
        settings = self.settings(self.proxies[name].port, bundle)
        if name == EDGE:
            member.role = partial(serve_wired_edge, path=self.wire)
            member.settings = settings
        else:
            member.settings = replace(settings, worker=replace(settings.worker, id=name))

    @property
    def wire(self) -> Path:
        """Where the edge's wire listens; a socket's path may have a hundred characters only."""
        return Path(self._short.name) / "edge"

    # --- what can be done to it -------------------------------------------------------------------

    def pid(self, name: str) -> int:
        """Of a running member.

        Raises:
            LinkError: it does not run.
        """
        process = self.stack.members[name].process
        if process is None or process.pid is None or not process.is_alive():
            raise LinkError(f"{name} does not run")
        return process.pid

    def kill(self, name: str) -> None:
        """Kill -9."""
        self.stack.kill(name)

    def freeze(self, name: str) -> None:
        """Its sockets stay open and nobody answers (SIGSTOP)."""
        os.kill(self.pid(name), signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Go on where it was frozen; a member that does not run is left alone."""
        with contextlib.suppress(LinkError):
            os.kill(self.pid(name), signal.SIGCONT)

    async def leave(self, name: str) -> None:
        """Ask a member to end (SIGTERM) and wait until it has; kill it when it does not."""
        process = self.stack.members[name].process
        if process is not None:
            process.terminate()
            await asyncio.to_thread(process.join, STOP_TIMEOUT_S)
            self.kill(name)

    def listen(self, name: str, hear: Hear | None) -> None:
        """Have `hear` called with each PUBLISH of a member before it is passed on; None: no more."""

        async def on_packet(direction: Direction, packet: Packet) -> None:
            if hear is not None and isinstance(packet, Publish):
                for single in singles(Incoming(packet.topic, packet.payload)):
                    await hear(direction, single.topic, single.payload)

        self.proxies[name].on_packet = None if hear is None else on_packet

    def calm(self) -> None:
        """Good weather on every link."""
        for proxy in self.proxies.values():
            proxy.up, proxy.down = Weather(), Weather()
            proxy.on_packet = None
            proxy.heal()

    async def mend(self) -> None:
        """Start again what is down, until everything works together.

        Raises:
            LinkError: it does not within `READY_TIMEOUT_S`.
        """
        self.calm()
        for server in filter(None, (self.broker, self.redis)):
            server.unfreeze() if server.running else await asyncio.to_thread(server.start)
        for name in self.stack.members:
            self.thaw(name)
            self.stack.start(name)
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self.until_present()
                await self.until_collaborating()
        except TimeoutError:
            raise LinkError(f"the rig does not work within {READY_TIMEOUT_S:g} s of its repair") from None

    async def until_present(self) -> None:
        """Wait until the broker knows every member.

        Raises:
            LinkError: it does not within `READY_TIMEOUT_S`.
        """
        settings = self.settings(self.broker.port)
        async with transport_for(settings.broker, new_id("roll-")) as transport:
            readiness = Readiness(transport, TENANT)
            workers = self.plan.workers
            if not await readiness.wait(edges=1, workers=workers, timeout_s=READY_TIMEOUT_S):
                raise LinkError(f"not every member is online {READY_TIMEOUT_S:g} s after its start")
        await self._transport.wait_connected(READY_TIMEOUT_S)

    async def until_collaborating(self) -> None:
        """Wait until the edge answers with the cloud's help."""
        request = Request("w5 w6 w7", threshold=1.0, max_new_tokens=2)
        while True:
            with contextlib.suppress(LinkError):
                answer = await ask_by_wire(self.wire, request, lambda _event, _at_s: None)
                if not answer.get("degraded", True):
                    return
            await asyncio.sleep(_RETRY_S)

    async def _stop_members(self) -> None:
        for name in self.stack.members:
            self.kill(name)

    # --- measuring --------------------------------------------------------------------------------

    def peaks_mib(self) -> dict[str, float]:
        """Of all members."""
        return {name: self.peak_mib(name) for name in self.stack.members}

    def peak_mib(self, name: str) -> float:
        """The most memory that a member's process has had (VmHWM); 0 when it does not run."""
        try:
            status = Path(f"/proc/{self.pid(name)}/status").read_text(encoding="ascii", errors="replace")
        except (LinkError, OSError):
            return 0.0
        found = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
        return int(next(found, "0")) / 1024


def _broker(folder: Path, *, embedded: bool) -> ServerProcess:
    if embedded or find_binary("mosquitto") is None:
        return EmbeddedServer(folder / "broker")
    return MosquittoServer(folder / "broker")
