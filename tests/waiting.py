"""Waiting for a condition, always with a bound."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

POLL_S = 0.01


def wait_until(condition: Callable[[], object], timeout_s: float = 5.0, what: str = "condition") -> None:
    """Poll until the condition is true; fail the test when it is not in time."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            raise AssertionError(f"{what} did not come true within {timeout_s:g} s")
        time.sleep(POLL_S)


async def eventually(
    condition: Callable[[], object], timeout_s: float = 5.0, what: str = "condition"
) -> None:
    """`wait_until` for coroutines: the event loop goes on meanwhile."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            raise AssertionError(f"{what} did not come true within {timeout_s:g} s")
        await asyncio.sleep(POLL_S)
