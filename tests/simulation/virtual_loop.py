"""An asyncio event loop in simulated time: waiting costs nothing, and a seed always gives the same run.

Theory. Between two callbacks nothing happens, so the loop never waits: when nothing is ready it sets its
clock to the next timer. The program is then a function of the order of its timers, and that follows from the
numbers that the simulation draws.

A `Process` is a part of the program that may be frozen or killed as a whole. Callbacks and tasks belong to
the process in whose context they were made; asyncio hands contexts on by itself, so the code that is run
knows nothing of this. What is ready while its process is frozen is held, and runs late, all at once, as after
SIGSTOP and SIGCONT. A killed process is one that is never thawed (and whose cables were cut).
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)

# A storm of the size used here needs one to ten thousand callbacks.
MAX_CALLBACKS = 100_000


class SimulationError(AssertionError):
    """The program under test does not end: nothing will ever happen again, or too much happens."""


class Process:
    """What can be frozen and killed as a whole."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.frozen = False
        self.killed = False
        self.held: list[events.Handle] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.context: Context = copy_context()
        self.context.run(_PROCESS.set, self)

    def __repr__(self) -> str:
        return self.name


def process_of(context: Context | None = None) -> Process | None:
    """Whose code is running, or would run in `context`."""
    return _PROCESS.get() if context is None else context.get(_PROCESS)


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order of their virtual times.

    Args:
        start_s: the clock's first value.
        executor_delay: how long a function given to an executor takes.

    Attributes:
        callbacks: how many were run.
        errors: what the exception handler got: a callback raised, or nobody heard of a failed task.
        tasks: those of no process.
    """

    def __init__(self, *, start_s: float = 1_000.0, executor_delay: Callable[[], float] = float) -> None:
        super().__init__()
        self._now_s = start_s
        self._executor_delay = executor_delay
        self.callbacks = 0
        self.errors: list[dict[str, Any]] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.set_task_factory(self._make_task)
        self.set_exception_handler(lambda _loop, context: self.errors.append(context))

    def time(self) -> float:
        """Seconds of virtual time."""
        return self._now_s

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        """Run `func` on the loop itself, after the time that it is said to take."""
        future = self.create_future()
        self.call_later(self._executor_delay(), self._run_for, future, func, args)
        return future

    def freeze(self, process: Process) -> None:
        """Nothing of the process runs from now on."""
        process.frozen = True

    def thaw(self, process: Process) -> None:
        """Run everything that became due meanwhile, and go on."""
        process.frozen = False
        held, process.held = process.held, []
        self._ready.extend(held)

    def spawn(self, process: Process, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task in a process."""
        return process.context.run(self.create_task, coroutine)

    # --- what asyncio's own loops do with a selector and the clock ---------------------------------

    def _run_once(self) -> None:
        self._release_due()
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if not handle.cancelled():
                self._run_handle(handle)

    def _release_due(self) -> None:
        """Move the timers that are due to what is ready, after jumping to the next if nothing else is."""
        timers = self._scheduled
        while timers and timers[0].cancelled():
            self._discard_first()
        if not self._ready and not self._stopping:
            if not timers:
                raise SimulationError("deadlock: nothing is ready, and no timer is set")
            self._now_s = max(self._now_s, timers[0].when())
        while timers and timers[0].when() <= self._now_s:
            self._ready.append(self._discard_first())

    def _discard_first(self) -> asyncio.TimerHandle:
        handle = heapq.heappop(self._scheduled)
        handle._scheduled = False
        return handle

    def _run_handle(self, handle: events.Handle) -> None:
        process = process_of(handle._context)
        if process is not None and process.frozen:
            process.held.append(handle)
            return
        self.callbacks += 1
        if self.callbacks > MAX_CALLBACKS:
            raise SimulationError(f"livelock: {MAX_CALLBACKS} callbacks, and the storm is not over")
        handle._run()

    def _process_events(self, _event_list: Any) -> None:
        """There are no file descriptors."""

    def _write_to_self(self) -> None:
        """There is no selector to wake."""

    def _timer_handle_cancelled(self, _handle: Any) -> None:
        """Cancelled timers are dropped when they are due."""

    def _make_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **kwargs: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, **kwargs)
        process = process_of()
        (self.tasks if process is None else process.tasks).append(task)
        return task

    @staticmethod
    def _run_for(future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if future.cancelled():
            return
        try:
            result = func(*args)
        except Exception as error:  # noqa: BLE001  whatever it is belongs to who awaits it
            future.set_exception(error)
        else:
            future.set_result(result)
