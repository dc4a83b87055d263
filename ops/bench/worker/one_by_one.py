"""A worker that runs each session's works by themselves: what packing is measured against."""

from __future__ import annotations

import asyncio

import cloud_worker.worker
from cloud_worker.scheduler import Scheduler
from cloud_worker.turns import Turns
from cloud_worker.work import Work
from ops.roles import serve_worker
from shared.config import Settings
from shared.wire.topics import SessionAddress


class OneByOne(Scheduler):
    """Hands out one session's works at a time, in turn."""

    def _take(
        self, addresses: list[SessionAddress], turns: Turns, room: int, *, is_first: bool, divide: bool
    ) -> list[Work]:
        return super()._take(addresses[:1], turns, room, is_first=True, divide=divide) if is_first else []


async def serve_one_by_one(settings: Settings, stop: asyncio.Event) -> None:
    """The role of a worker that does not pack; for a process of its own."""
    # The front takes no scheduler from outside, and this process serves nothing else.
    cloud_worker.worker.Scheduler = OneByOne  # type: ignore[attr-defined]
    await serve_worker(settings, stop)
