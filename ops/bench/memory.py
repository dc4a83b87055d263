"""How much memory a process has. Source: proc(5), status."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

_KIB_PER_MIB: Final = 1024


class Memory(msgspec.Struct, frozen=True):
    """A process's memory in MiB.

    Attributes:
        peak: the most that was ever resident.
        private: resident now and its own: what it computed, copied or imported.
        mapped: resident now and a view of files, weights among them: the system may drop and share it.
    """

    peak: float
    private: float
    mapped: float


def memory_of(pid: int | str = "self") -> Memory:
    """A process's memory.

    Raises:
        OSError: it is gone, or the system has no /proc.
    """
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return Memory(*(_mib(fields[name]) for name in ("VmHWM", "RssAnon", "RssFile")))


def _mib(field: str) -> float:
    """`  1234 kB` in MiB."""
    return int(field.split(maxsplit=1)[0]) / _KIB_PER_MIB
