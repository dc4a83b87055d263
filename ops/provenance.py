"""Where figures come from: the machine, the commit, and the versions of what ran."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import torch

_CPU_INFO: Final = Path("/proc/cpuinfo")
_GIT_TIMEOUT_S: Final = 10.0
_LIBRARIES: Final = (
    "antiphon",
    "torch",
    "transformers",
    "aiomqtt",
    "paho-mqtt",
    "msgspec",
    "uvloop",
    "zstandard",
)


def machine() -> dict[str, str | int]:
    """What compute times depend on."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 1,
        "torch_threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def commit() -> str:
    """The checkout's commit, `+` behind it where files differ from it; empty outside of a checkout."""
    head = _git("rev-parse", "HEAD")
    return head + "+" if head and _git("status", "--porcelain", "--untracked-files=no") else head


def libraries() -> dict[str, str]:
    """Versions of what figures depend on; what is not installed is left out."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git(*arguments: str) -> str:
    folder = Path(__file__).parent
    try:
        done = subprocess.run(  # noqa: S603  fixed words, no shell
            ["git", *arguments],  # noqa: S607  whichever git this host has
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _cpu() -> str:
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
