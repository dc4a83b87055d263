"""Wall clocks that jump: the broker's by libfaketime, a member's by what it takes for the time of day.

No deadline of ours reads the wall clock. What does: Mosquitto for message expiry, a member's presence for
the number of its connection, and Redis for its times to live. libfaketime can't be loaded into a Redis with
jemalloc; a jump ahead there ends every key at once, which is the fault "Redis flushed".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import ModuleType

from shared.config import Settings

_LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1")


def libfaketime() -> Path | None:
    """Where the library is, if it is installed (apt-get install faketime)."""
    found = (path for pattern in _LIBRARIES for path in Path("/").glob(pattern.lstrip("/")))
    return next(found, None)


class ServerClock:
    """The wall clock of a server that was started in its environment; its monotonic one stays true.

    Args:
        file: where the server reads its offset.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jump(0)

    def jump(self, offset_s: int) -> None:
        """Show another time from now on, so many seconds from the true one."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{offset_s:+d}\n", encoding="ascii")
        fresh.replace(self._file)

    def environment(self) -> Mapping[str, str]:
        """For the server; empty without libfaketime."""
        library = libfaketime()
        if library is None:
            return {}
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


async def serve_worker_with_clock(settings: Settings, stop: asyncio.Event, offset_s: float) -> None:
    """The role `worker`, in a process whose wall clock is `offset_s` from the true one."""
    import cloud_worker.service
    from ops.roles import serve_worker

    _set_clock(cloud_worker.service, offset_s)
    await serve_worker(settings, stop)


async def serve_edge_with_clock(settings: Settings, stop: asyncio.Event, path: Path, offset_s: float) -> None:
    """A wired edge, in a process whose wall clock is `offset_s` from the true one."""
    import edge_agent.service
    from ops.faults.wired_edge import serve_wired_edge

    _set_clock(edge_agent.service, offset_s)
    await serve_wired_edge(settings, stop, path)


def _set_clock(service: ModuleType, offset_s: float) -> None:
    """What the service reads the wall clock for; its process alone has that clock.

    Raises:
        AttributeError: the service shows no presence any more, and reads no clock that is known here.
    """
    presence = partial(service.Presence, wall_clock_s=lambda: time.time() + offset_s)
    service.Presence = presence  # type: ignore[attr-defined]
