"""Which servers a bench ran against."""

from __future__ import annotations

import platform
import re
import subprocess
from importlib.metadata import version

from ops.faults.servers import find_binary

_TIMEOUT_S = 10.0


def versions(*, embedded: bool) -> dict[str, str]:
    """Of broker, Redis, and ourselves; the broker's name says which one it is."""
    broker = "" if embedded else _version_of("mosquitto", "-h")
    return {
        "antiphon": version("antiphon"),
        "broker": f"mosquitto {broker}" if broker else "embedded",
        "redis": _version_of("redis-server", "--version"),
        "kernel": platform.release(),
    }


def _version_of(program: str, flag: str) -> str:
    """The first number with dots that a program says of itself; empty when it is not installed."""
    binary = find_binary(program)
    if binary is None:
        return ""
    said = subprocess.run(  # noqa: S603  a server's own version
        [binary, flag], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    found = re.search(r"\d+\.\d+[.\d]*", said.stdout + said.stderr)
    return found.group() if found else "unknown"
