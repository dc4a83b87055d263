"""An installation on one machine: broker, workers and edge as real processes, started and watched.

The processes fork from a server that has imported torch once, so they start in a fraction of a
second. A process that dies unasked is started again, after a pause that grows while it keeps dying.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerContext, ForkServerProcess

import structlog

from ops.roles import EXIT_CANNOT_RUN, Role, run_child, serve_broker, serve_edge, serve_worker
from shared.config import Settings
from shared.errors import ConfigError

log = structlog.get_logger(__name__)

# A member must be able to leave in order before it is killed. The slowest is a worker whose broker does
# not answer: 10 s of drain, 2 s for the store's last rows, 7 s for the transport's farewell, and a batch.
# An edge has 5 s for its prompts in hand and 2.5 s for its last words, then the same farewell, at each of
# its buses, and 2 s for the clients of a bus that it hosts.
STOP_TIMEOUT_S = 30.0
KILL_TIMEOUT_S = 5.0
WATCH_INTERVAL_S = 0.2
FIRST_PAUSE_S = 0.2
MAX_PAUSE_S = 10.0
# A process that lived this long did not fail at its start.
STEADY_S = 30.0


@dataclass(slots=True)
class Member:
    """One process of the stack.

    Attributes:
        wanted: whether it should be running; False after `kill` until `start`.
        failures: deaths in a row, soon after the start.
    """

    name: str
    role: Role
    settings: Settings
    process: ForkServerProcess | None = None
    wanted: bool = False
    failures: int = 0
    started_s: float = 0.0
    restart_at_s: float = 0.0

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.is_alive()


class Stack:
    """The processes of `antiphon up`.

    Args:
        settings: shared by all; each worker gets an id of its own.
        workers: how many.
        own_broker: run the embedded broker; False uses the one that the settings name.
        restart: start again what dies unasked.
    """

    def __init__(
        self, settings: Settings, *, workers: int, own_broker: bool = True, restart: bool = True
    ) -> None:
        self._restart = restart
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["ops.preload"])
        self.members: dict[str, Member] = {}
        if own_broker:
            self.members["broker"] = Member("broker", serve_broker, settings)
        for number in range(1, workers + 1):
            name = f"worker-{number}"
            section = replace(settings.worker, id=name)
            self.members[name] = Member(name, serve_worker, replace(settings, worker=section))
        self.members["edge"] = Member("edge", serve_edge, settings)

    def start_all(self) -> None:
        """Start every member."""
        for name in self.members:
            self.start(name)

    def start(self, name: str) -> None:
        """Start one member, if it is not running."""
        member = self.members[name]
        member.wanted = True
        if member.alive:
            return
        process = self._context.Process(
            target=run_child, args=(name, member.role, member.settings), name=f"antiphon-{name}"
        )
        process.start()
        member.process = process
        member.started_s = time.monotonic()
        member.restart_at_s = 0.0

    def kill(self, name: str) -> None:
        """Kill one member with SIGKILL; it stays down until `start`."""
        member = self.members[name]
        member.wanted = False
        if member.process is not None:
            member.process.kill()
            member.process.join(KILL_TIMEOUT_S)

    async def watch(self) -> None:
        """Start again what dies unasked, until cancelled.

        Raises:
            ConfigError: a member can't run as it is configured; it has said why on stderr.
        """
        while True:
            for member in self.members.values():
                self._check(member, time.monotonic())
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def stop(self) -> None:
        """Stop all in order: edge first, then workers, the broker last; kill what does not go."""
        for prefix in ("edge", "worker", "broker"):
            members = [member for name, member in self.members.items() if name.startswith(prefix)]
            for member in members:
                member.wanted = False
                if member.alive and member.process is not None:
                    member.process.terminate()
            await asyncio.gather(*(asyncio.to_thread(_join, member) for member in members))

    def _check(self, member: Member, now_s: float) -> None:
        if member.alive or not member.wanted or not self._restart:
            return
        if member.process is not None and member.process.exitcode == EXIT_CANNOT_RUN:
            msg = f"{member.name} can't run with these settings; its own words are above"
            raise ConfigError(msg)
        if member.restart_at_s == 0.0:
            member.failures = 0 if now_s - member.started_s > STEADY_S else member.failures + 1
            pause_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2**member.failures)
            member.restart_at_s = now_s + pause_s
            code = member.process.exitcode if member.process is not None else None
            log.warning("process_died", name=member.name, exit_code=code, restart_in_s=round(pause_s, 1))
        elif now_s >= member.restart_at_s:
            self.start(member.name)


def _join(member: Member) -> None:
    if member.process is None:
        return
    member.process.join(STOP_TIMEOUT_S)
    if member.process.is_alive():
        log.warning("process_killed", name=member.name, reason="it did not stop in time")
        member.process.kill()
        member.process.join(KILL_TIMEOUT_S)
