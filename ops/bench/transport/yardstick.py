"""What is measured: something that can make round trips."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from ops.bench.transport.question import Size
from shared.errors import LinkError

TIMEOUT_S: Final = 20.0


class Yardstick(Protocol):
    """One way there and back."""

    async def trips(self, size: Size, count: int) -> list[float]:
        """Seconds of `count` round trips, one after another.

        Raises:
            LinkError: an answer was not its question's.
        """


async def timed(trip: Callable[[], Awaitable[None]], count: int) -> list[float]:
    """Seconds of each of `count` trips, one after another.

    Raises:
        LinkError: they took longer than `TIMEOUT_S`: an answer got lost.
    """
    seconds = []
    try:
        async with asyncio.timeout(TIMEOUT_S):
            for _ in range(count):
                began_s = time.perf_counter()
                await trip()
                seconds.append(time.perf_counter() - began_s)
    except TimeoutError:
        raise LinkError(f"no answer after {len(seconds)} of {count} round trips") from None
    return seconds
