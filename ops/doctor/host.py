"""This host: Python, torch, cores, memory and disk."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Final

from ops.doctor.check import Check, fail, ok, warn
from shared.bundles import bundle_path
from shared.config import Settings
from shared.errors import AntiphonError

OLDEST_PYTHON: Final = (3, 11)
OLDEST_TORCH: Final = (2, 6)
# What a process needs beside weights and caches: torch and transformers themselves.
_BASE_BYTES: Final = 600 * 1024 * 1024
_MIB: Final = 1024 * 1024


async def check_python(_settings: Settings) -> Check:
    """The interpreter is one that the project supports."""
    found = f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        return fail("python", found, "install Python 3.11 or newer and run `make setup` again")
    if sys.maxsize < 2**32:
        return fail("python", f"{found}, 32 bit", "install a 64-bit Python: torch has no other builds")
    return ok("python", found)


async def check_torch(_settings: Settings) -> Check:
    """Torch can be imported and is recent enough."""
    if importlib.util.find_spec("torch") is None:
        return fail("torch", "not installed", "pip install -c constraints.txt torch")
    version = importlib.metadata.version("torch")
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
    if numbers < OLDEST_TORCH:
        return fail("torch", version, "pip install -c constraints.txt --upgrade torch")
    try:
        capability = await asyncio.to_thread(_cpu_capability)
    except (ImportError, OSError) as error:
        return fail(
            "torch", f"{version} can't be loaded: {error!s:.120}", "pip install --force-reinstall torch"
        )
    return ok("torch", f"{version}, CPU kernels for {capability}")


def _cpu_capability() -> str:
    import torch

    return str(torch.backends.cpu.get_cpu_capability())


async def check_threads(settings: Settings) -> Check:
    """No process asks for more torch threads than there are cores for it."""
    cores = _usable_cores()
    detail = f"edge {settings.edge.threads}, worker {settings.worker.threads}, usable cores {cores}"
    if max(settings.edge.threads, settings.worker.threads) > cores:
        return warn(
            "threads",
            detail,
            f"set edge.threads and worker.threads to {cores} at most: threads on one core only wait",
        )
    return ok("threads", detail)


def _usable_cores() -> int:
    """Cores this process may run on; a container or taskset may leave it fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


async def check_room(settings: Settings) -> Check:
    """Memory holds the weights and the caches that the settings allow."""
    try:
        folder = bundle_path(settings.general.bundle)
    except AntiphonError:
        return warn("room", "the bundle's size is not known", "set general.bundle first")
    weights_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    # Weights kept in 16 bits on disk become 32 bits in memory.
    needed_bytes = _BASE_BYTES + 2 * weights_bytes + settings.worker.kv_budget_mib * _MIB
    free_bytes = _available_memory_bytes()
    disk_bytes = shutil.disk_usage(folder).free
    detail = f"{_mib(weights_bytes)} of weights, disk {_mib(disk_bytes)} free"
    if free_bytes is None:
        return ok("room", f"{detail}, free memory unknown on this system")
    detail = f"{detail}, memory {_mib(free_bytes)} free of {_mib(needed_bytes)} wanted"
    if needed_bytes > free_bytes:
        return warn("room", detail, "lower worker.kv_budget_mib, run fewer workers here, or free memory")
    return ok("room", detail)


def _available_memory_bytes() -> int | None:
    """Memory that can be had without swapping; Linux tells, others don't."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kib = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return int(kib) * 1024 if kib else None


def _mib(count_bytes: int) -> str:
    return f"{count_bytes / _MIB:,.0f} MiB"
