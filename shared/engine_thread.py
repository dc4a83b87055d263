"""The one thread on which a model runs, so that the event loop never waits for it.

`loop.run_in_executor` would do, but it makes two futures, a work item and a condition variable for each call,
and settles them over two turns of the loop: twice the time of what is done here, once a token on both sides.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class _Call(NamedTuple):
    """What is to be run, and who waits for it on which loop."""

    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


class EngineThread:
    """Runs calls one after another, in the order in which they were made; the first starts it.

    Args:
        name: what a debugger shows.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._closed = False
        self._thread = Thread(target=self._work, name=name, daemon=True)

    def run(self, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Run `function(*arguments)` on the thread; one that is cancelled before it began is not run.

        Returns:
            What it returns or raises, on the running event loop.

        Raises:
            RuntimeError: the thread was closed.
        """
        if self._closed:
            msg = "the engine's thread was closed; nothing runs on it any more"
            raise RuntimeError(msg)
        if not self._thread.is_alive():
            self._thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._calls.put(_Call(loop, future, function, arguments))
        return future

    def close(self) -> None:
        """Let the running call finish, run none of those that wait, and end the thread; it blocks."""
        self._closed = True
        self._calls.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if self._closed or call.future.cancelled():
                outcome: tuple[Any, BaseException | None] = None, asyncio.CancelledError()
            else:
                outcome = _outcome(call)
            with contextlib.suppress(RuntimeError):  # the loop was closed, and nobody waits
                call.loop.call_soon_threadsafe(_settle, call.future, *outcome)
            del call, outcome  # nothing that they hold outlives the call


def _outcome(call: _Call) -> tuple[Any, BaseException | None]:
    """What the function returns, and what it raises."""
    try:
        return call.function(*call.arguments), None
    except StopIteration as error:  # no future takes it
        return None, RuntimeError(f"the call raised {error!r}")
    except BaseException as error:  # noqa: BLE001  it is raised where the call is waited for
        return None, error


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    """Tell whoever still waits, on the loop's own thread."""
    if future.done():
        return
    if isinstance(error, asyncio.CancelledError):
        future.cancel()
    elif error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
