"""The far ends, each a process of its own: ``python -m ops.bench.transport.far KIND HOST PORT``."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from ops.bench.transport import aiomqtt_echo, own_echo, paho_echo, tcp_echo
from ops.event_loop import run
from ops.faults.servers import HOST, REPOSITORY
from shared.errors import LinkError
from shared.log import setup_logging

_READY: Final = b"ready\n"
_START_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 5.0

Serve = Callable[[str, int, Callable[[], None]], Awaitable[None]]


def _worker(*, grouped: bool) -> Serve:
    from ops.bench.transport import empty_worker

    return partial(empty_worker.serve, grouped=grouped)


KINDS: Final[Mapping[str, Callable[[], Serve]]] = {
    "tcp": lambda: tcp_echo.serve,
    "own": lambda: own_echo.serve,
    **{f"aiomqtt-{qos}": partial(partial, aiomqtt_echo.serve, qos=qos) for qos in (0, 1)},
    **{f"paho-{qos}": partial(partial, paho_echo.serve, qos=qos) for qos in (0, 1)},
    "worker": partial(_worker, grouped=True),
    "worker-alone": partial(_worker, grouped=False),
}


@asynccontextmanager
async def far_end(kind: str, port: int) -> AsyncIterator[None]:
    """A far end in a process of its own, ready to answer.

    Raises:
        LinkError: it did not start; its own words are on stderr.
    """
    arguments = ["-m", "ops.bench.transport.far", kind, HOST, str(port)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=PIPE, stdout=PIPE, cwd=REPOSITORY, env=dict(os.environ)
    )
    try:
        await _until_ready(process, kind)
        yield
    finally:
        await _stop(process)


async def _until_ready(process: Process, kind: str) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(_START_TIMEOUT_S):
        if await process.stdout.readline() != _READY:
            raise LinkError(f"the bench's far end {kind} did not start; see above for why")


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _tell_ready() -> None:
    sys.stdout.buffer.write(_READY)
    sys.stdout.flush()


async def _serve(kind: str, host: str, port: int) -> None:
    await KINDS[kind]()(host, port, _tell_ready)


def main() -> None:
    """Serve until killed."""
    kind, host, port = sys.argv[1:]
    setup_logging("error")
    run(_serve(kind, host, int(port)))


if __name__ == "__main__":
    main()
