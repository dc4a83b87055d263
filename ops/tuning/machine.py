"""What this machine computes well: device and dtype for a run."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import torch

from shared.errors import ConfigError

DtypeChoice = Literal["auto", "float32", "bfloat16"]
DeviceChoice = Literal["auto", "cpu", "cuda"]

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_CPU_INFO: Final = Path("/proc/cpuinfo")
# Instructions that multiply bf16 matrices; without one of them bf16 is slower than fp32.
_BF16_FLAGS: Final = {"avx512_bf16", "amx_bf16", "bf16"}


def choose_device(wanted: DeviceChoice) -> str:
    """The device as torch calls it: cpu or cuda.

    Raises:
        ConfigError: a GPU was asked for, and torch sees none.
    """
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise ConfigError(
            "--device cuda: torch sees no GPU here. Use --device cpu, or install torch for CUDA."
        )
    return "cuda" if there and wanted != "cpu" else "cpu"


def choose_dtype(wanted: DtypeChoice, device: str, cpu_info: Path = _CPU_INFO) -> str:
    """float32, or bfloat16 where `device` has instructions for it."""
    if wanted != "auto":
        return wanted
    fast = torch.cuda.is_bf16_supported() if device == "cuda" else _cpu_has_bf16(cpu_info)
    return "bfloat16" if fast else "float32"


def _cpu_has_bf16(cpu_info: Path) -> bool:
    try:
        return not _BF16_FLAGS.isdisjoint(cpu_info.read_text().split())
    except OSError:
        return False
