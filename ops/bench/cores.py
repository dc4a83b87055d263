"""Which core a process runs on: the two sides of a bench must not share one where there are two."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from ops.roles import Role
from shared.config import Settings


def own_cores() -> list[int]:
    """The cores that this process may use; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def pin(core: int | None) -> None:
    """Keep the calling thread, and those that it starts from now on, on one core; None: wherever it was."""
    if core is not None:
        os.sched_setaffinity(0, {core})


@dataclass(frozen=True)
class Cores:
    """A core for each side of the split; None: whichever is free."""

    edge: int | None
    worker: int | None

    @classmethod
    def choose(cls) -> Cores:
        """One each where there are two; else the system decides."""
        cores = own_cores()
        return cls(cores[0], cores[1]) if len(cores) > 1 else cls(None, None)

    @property
    def words(self) -> str:
        """For a report."""
        return "not pinned" if self.edge is None else f"edge on {self.edge}, worker on {self.worker}"


@dataclass(frozen=True)
class Pinned:
    """A role on one core; it is pinned before it starts any thread."""

    role: Role
    core: int | None

    async def __call__(self, settings: Settings, stop: asyncio.Event) -> None:
        """Run the role."""
        pin(self.core)
        await self.role(settings, stop)
