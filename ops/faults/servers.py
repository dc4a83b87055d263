"""Real servers as processes: each on a free port, in a folder of its own, to be killed and frozen at will."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Self

from shared.errors import ConfigError, LinkError

REPOSITORY = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0
HOST = "127.0.0.1"
_SERVER_FOLDERS = "/usr/sbin:/usr/local/sbin:/sbin:/opt/homebrew/sbin"
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
# To Linux, the parent is the thread that starts a process: one that lives as long as we do.
_launcher = ThreadPoolExecutor(1, thread_name_prefix="servers")


def find_binary(name: str) -> str | None:
    """Where a server's program is; Debian keeps some in /usr/sbin, which is not on every PATH."""
    return shutil.which(name) or shutil.which(name, path=_SERVER_FOLDERS)


@cache
def die_with_parent() -> tuple[str, ...]:
    """What stands before a command whose process shall not outlive ours, kill -9 included.

    Empty where nothing can do that: `setpriv` is Linux's, and BusyBox' has no such option.
    """
    if shutil.which(_DIE_WITH_PARENT[0]) is None:
        return ()
    trial = subprocess.run([*_DIE_WITH_PARENT, "true"], capture_output=True, check=False)  # noqa: S603
    return _DIE_WITH_PARENT if trial.returncode == 0 else ()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class ServerProcess(ABC):
    """A server that can be killed, stopped, frozen and started again on its port.

    Subclasses say how it is started.

    Args:
        folder: for its files and its log.

    Attributes:
        extra_environment: for the process, beside our own.
    """

    name = "server"
    host = HOST

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.extra_environment: Mapping[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments."""

    @property
    def running(self) -> bool:
        """Whether its process is there, frozen or not."""
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return (self.folder / f"{self.name}.log").read_text(errors="replace")

    def start(self) -> Self:
        """Start it and wait until its port is open.

        Raises:
            ConfigError: it can't run; its own words are quoted.
        """
        self.launch()
        end_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end_s:
            if not self.running:
                raise ConfigError(f"{self.name} ended at once:\n{self.log}")
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 0.5):
                return self
            time.sleep(0.01)
        self.kill()
        raise ConfigError(f"{self.name} did not open port {self.port}:\n{self.log}")

    def restart(self) -> Self:
        """Start it again where it was."""
        return self.start()

    def launch(self) -> None:
        """Start it without waiting; it ends with us, however we end."""
        self.process = _launcher.submit(self._launch).result()

    def _launch(self) -> subprocess.Popen[bytes]:
        command = [*die_with_parent(), *self.command()]
        with (self.folder / f"{self.name}.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603  our own servers
                command, stdout=log, stderr=subprocess.STDOUT, cwd=REPOSITORY, env=self.environment()
            )

    def environment(self) -> dict[str, str]:
        """What its process gets: our own variables and the extra ones."""
        return {**os.environ, **self.extra_environment}

    def stop(self) -> int:
        """Ask it to end (SIGTERM); returns its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill -9: no farewell, no flush."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Its sockets stay open and nobody answers (SIGSTOP)."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def unfreeze(self) -> None:
        """Go on where it was frozen (SIGCONT)."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:  # Ctrl-C during the start, too
            self.kill()
            raise

    def __exit__(self, *_: object) -> None:
        if self.running:
            self.unfreeze()
            self.kill()

    def _end(self, number: signal.Signals) -> int:
        process = self.process
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)
            raise LinkError(f"{self.name} ignored signal {number}:\n{self.log}") from None


class MosquittoServer(ServerProcess):
    """A real Mosquitto.

    Args:
        folder: for its configuration and log.
        config: lines beside the listener; the default lets everybody in.
        listener: lines of the listener, after its ``listener`` line.
    """

    name = "mosquitto"

    def __init__(self, folder: Path, config: str = "allow_anonymous true\n", listener: str = "") -> None:
        super().__init__(folder)
        self.config = config
        self.listener = listener

    def command(self) -> list[str]:
        """With a configuration that is written anew for each start."""
        path = self.folder / "mosquitto.conf"
        # Started by root it would drop to a user that can't read the folder.
        user = "user root\n" if os.geteuid() == 0 else ""
        head = f"set_tcp_nodelay true\npersistence false\n{user}"
        path.write_text(f"{head}{self.config}\nlistener {self.port} {HOST}\n{self.listener}\n")
        return [find_binary("mosquitto") or "mosquitto", "-c", str(path)]


class ConfiguredMosquitto(MosquittoServer):
    """A Mosquitto with a whole configuration file that names the port itself."""

    def __init__(self, folder: Path, config: str, port: int) -> None:
        super().__init__(folder, config)
        self.port = port

    def command(self) -> list[str]:
        """With the given configuration."""
        path = self.folder / "mosquitto.conf"
        user = "user root\n" if os.geteuid() == 0 else ""
        path.write_text(self.config + user)
        return [find_binary("mosquitto") or "mosquitto", "-c", str(path)]


class EmbeddedServer(ServerProcess):
    """Our own broker as a process, so that it can be killed like any other.

    Args:
        folder: for its log.
        settings: fields of `BrokerSettings`.
    """

    name = "embedded"

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__(folder)
        self.settings = settings

    def command(self) -> list[str]:
        """Warnings are errors in it."""
        arguments = ["--host", HOST, "--port", str(self.port), "--settings", json.dumps(self.settings)]
        return [sys.executable, "-W", "error", "-m", "broker.embedded", *arguments]


class RedisServer(ServerProcess):
    """A real Redis that keeps nothing on disk."""

    name = "redis"

    @property
    def url(self) -> str:
        """For clients."""
        return f"redis://{self.host}:{self.port}/0"

    def command(self) -> list[str]:
        """Neither snapshots nor an append-only file: killed is empty."""
        places = ["--bind", HOST, "--port", str(self.port), "--dir", str(self.folder)]
        binary = find_binary("redis-server") or "redis-server"
        return [binary, *places, "--save", "", "--appendonly", "no", "--loglevel", "warning"]
