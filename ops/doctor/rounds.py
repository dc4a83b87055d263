"""The doctor's round: every check at once, none of them unbounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ops.doctor.bundle import check_bundle
from ops.doctor.check import Check, fail
from ops.doctor.clock import check_clock
from ops.doctor.host import check_python, check_room, check_threads, check_torch
from ops.doctor.services import check_broker, check_home_bus, check_redis
from shared.config import Settings

# Importing torch from a cold disk and hashing a large bundle are the slow ones.
CHECK_TIMEOUT_S: Final = 120.0

_CHECKS: Final[dict[str, Callable[[Settings], Awaitable[Check]]]] = {
    "python": check_python,
    "torch": check_torch,
    "threads": check_threads,
    "bundle": check_bundle,
    "room": check_room,
    "broker": check_broker,
    "home bus": check_home_bus,
    "redis": check_redis,
    "clock": check_clock,
}


async def run_checks(settings: Settings) -> list[Check]:
    """Look at this host and what the settings name.

    Returns:
        One finding per check, always in the same order.
    """
    return list(await asyncio.gather(*(_bounded(name, look(settings)) for name, look in _CHECKS.items())))


async def _bounded(name: str, look: Awaitable[Check]) -> Check:
    """A doctor that fails is a finding too, not an end of the round."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await look
    except Exception as error:  # noqa: BLE001 - whatever it is, the other findings have to be shown
        return fail(name, f"the check itself failed ({type(error).__name__})", f"report this: {error!s:.200}")
