"""Bounds each call of a store, and leaves a store that does not serve alone for a while."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import structlog

from shared.errors import StoreError, StoreRefusedError

_log = structlog.get_logger(__name__)


class StoreGuard:
    """Says when a store may be asked.

    Args:
        call_timeout_s: bound of one call.
        pause_s: how long the store is left alone after it failed.
        clock: seconds that only grow.
    """

    def __init__(
        self, *, call_timeout_s: float, pause_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._call_timeout_s = call_timeout_s
        self._pause_s = pause_s
        self._clock = clock
        self._paused_until_s = float("-inf")
        self._is_away = False

    @property
    def is_paused(self) -> bool:
        """Whether the store is left alone now."""
        return self._left_s() > 0

    def now_s(self) -> float:
        """The clock's time."""
        return self._clock()

    async def pause_over(self) -> None:
        """Wait until the store may be asked again."""
        while (left_s := self._left_s()) > 0:  # noqa: ASYNC110  time is what it waits for
            await asyncio.sleep(left_s)

    @contextlib.asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Around a call, or several; a store that refuses one session is not left alone for it.

        Raises:
            StoreError: what was called raised it, or it took too long.
        """
        try:
            async with asyncio.timeout(self._call_timeout_s):
                yield
        except TimeoutError:
            error = StoreError(f"the context store did not answer within {self._call_timeout_s} s")
            self._pause(error)
            raise error from None
        except StoreRefusedError:
            self._on_answer()
            raise
        except StoreError as error:
            self._pause(error)
            raise
        self._on_answer()

    def _left_s(self) -> float:
        return self._paused_until_s - self._clock()

    def _on_answer(self) -> None:
        if self._is_away:
            self._is_away = False
            _log.info("context_store_back")

    def _pause(self, error: StoreError) -> None:
        self._paused_until_s = self._clock() + self._pause_s
        if not self._is_away:  # told once until it is back
            self._is_away = True
            _log.warning("context_store_away", code=error.code, reason=str(error))
