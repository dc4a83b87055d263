"""The clock: TLS and message expiry need the time of day, deadlines need one that only grows."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from datetime import UTC, datetime
from typing import Final

from ops.doctor.check import Check, ok, warn
from shared.config import Settings

# No build of this project is older.
_EARLIEST: Final = datetime(2025, 1, 1, tzinfo=UTC)
_WATCH_S: Final = 0.5
_STEP_S: Final = 0.1
_TIMEDATECTL_TIMEOUT_S: Final = 3.0


async def check_clock(_settings: Settings) -> Check:
    """The wall clock is plausible, runs with the monotonic one, and is kept right by somebody."""
    stepped_s = await _stepped_s()
    now = datetime.now(UTC)
    synchronised = await _synchronised()
    if now < _EARLIEST:
        return warn("clock", f"it says {now:%Y-%m-%d}", "set the time: TLS certificates look not yet valid")
    if abs(stepped_s) > _STEP_S:
        detail = f"the wall clock moved {stepped_s:+.2f} s against the monotonic one"
        return warn("clock", detail, "let one time service slew the clock, not several step it")
    if synchronised is False:
        return warn("clock", f"{now:%Y-%m-%d %H:%M} UTC, not synchronised", "sudo timedatectl set-ntp true")
    kept = "synchronised" if synchronised else "synchronisation unknown here"
    return ok("clock", f"{now:%Y-%m-%d %H:%M} UTC, {kept}")


async def _stepped_s() -> float:
    """How far the wall clock runs from the monotonic one while nobody should touch it."""
    wall_s, steady_s = time.time(), time.monotonic()
    await asyncio.sleep(_WATCH_S)
    return (time.time() - wall_s) - (time.monotonic() - steady_s)


async def _synchronised() -> bool | None:
    """What systemd says; None where there is nobody to ask, as in a container."""
    program = shutil.which("timedatectl")
    if program is None:
        return None
    process = await asyncio.create_subprocess_exec(
        program,
        "show",
        "--property=NTPSynchronized",
        "--value",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_TIMEDATECTL_TIMEOUT_S):
            out, _ = await process.communicate()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        return None
    return {b"yes": True, b"no": False}.get(out.strip())
