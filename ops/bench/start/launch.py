"""The real commands as fresh processes, each on its core."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from ops.bench.cores import pin
from ops.bench.memory import Memory, memory_of
from ops.bench.start.phases import Phase
from ops.faults.servers import REPOSITORY
from shared.config_sources import PREFIX
from shared.errors import LinkError

STOP_TIMEOUT_S: Final = 30.0
PHASES_TIMEOUT_S: Final = 300.0


class Launched:
    """A process, and when it was asked for (monotonic seconds)."""

    def __init__(self, command: Sequence[str], core: int | None) -> None:
        with _children_on(core):
            self.at_s = time.monotonic()
            self._process = subprocess.Popen(  # noqa: S603  our own commands
                [sys.executable, *command], cwd=REPOSITORY, env=_environment()
            )

    def memory(self) -> Memory:
        """Of the process itself.

        Raises:
            LinkError: it has ended.
        """
        try:
            return memory_of(self._process.pid)
        except (OSError, KeyError) as error:
            raise LinkError(f"the process ended by itself, with status {self._process.poll()}") from error

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to what does not follow."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def launched(command: Sequence[str], core: int | None = None) -> Iterator[Launched]:
    """`antiphon …` in a fresh interpreter, until the context ends.

    Args:
        command: what stands behind `antiphon`.
        core: where it runs; None: anywhere.
    """
    process = Launched(["-m", "ops.cli", *command], core)
    try:
        yield process
    finally:
        process.stop()


def phases_of(role: str, bundle: Path, core: int | None) -> list[Phase]:
    """A role's start, taken apart in a fresh interpreter.

    Raises:
        LinkError: it failed; its own words are on stderr.
    """
    with _children_on(core):
        arguments = ["-m", "ops.bench.start.phases", role, str(bundle), str(time.monotonic())]
        done = subprocess.run(  # noqa: S603  our own module
            [sys.executable, *arguments],
            cwd=REPOSITORY,
            env=_environment(),
            stdout=subprocess.PIPE,
            timeout=PHASES_TIMEOUT_S,
            check=False,
        )
    if done.returncode:
        raise LinkError(f"the {role}'s start failed with status {done.returncode}")
    return msgspec.json.decode(done.stdout, type=list[Phase])


@contextmanager
def _children_on(core: int | None) -> Iterator[None]:
    """Processes that are started inside run on `core`: a child inherits it from the thread that forks."""
    before = os.sched_getaffinity(0) if core is not None else None
    pin(core)
    try:
        yield
    finally:
        if before is not None:
            with suppress(OSError):
                os.sched_setaffinity(0, before)


def _environment() -> dict[str, str]:
    """Ours, without settings: a bench's own are all that counts."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
