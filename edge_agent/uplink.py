"""How fast states travel to the cloud: bytes per second, from reply times of small and large steps. Sans I/O.

A reply takes a round trip and the time that its step's bytes take. A line through (bytes, seconds) has that
time per byte as its slope; old replies count less and less, so that it follows a link that changes. What a
worker spent on a step is taken off first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

_KEPT: Final = 0.98  # of each earlier reply's weight: some fifty replies count
# Steps must differ this much in size, or the slope is that of noise.
_LEAST_SPREAD_BYTES: Final = 1024.0
_LEAST_REPLIES: Final = 4


@dataclass(slots=True)
class Uplink:
    """The line through the replies of one link; all its sessions add to it."""

    replies: int = 0
    _weight: float = 0.0
    _bytes: float = 0.0
    _seconds: float = 0.0
    _bytes_moment: float = 0.0
    _joint_moment: float = 0.0

    def observe(self, step_bytes: int, reply_s: float, worker_s: float = 0.0) -> None:
        """A reply came.

        Args:
            step_bytes: of the steps that it answers.
            reply_s: since the first of them went out.
            worker_s: what the worker says it waited and computed.
        """
        travel_s = max(0.0, reply_s - worker_s)
        self.replies += 1
        self._weight = _KEPT * self._weight + 1.0
        gain = 1.0 / self._weight
        by_bytes, by_seconds = step_bytes - self._bytes, travel_s - self._seconds
        self._bytes += gain * by_bytes
        self._seconds += gain * by_seconds
        self._bytes_moment += gain * (by_bytes * (step_bytes - self._bytes) - self._bytes_moment)
        self._joint_moment += gain * (by_bytes * (travel_s - self._seconds) - self._joint_moment)

    @property
    def bytes_per_s(self) -> float | None:
        """The rate; None while it can't be told, infinite where size makes no difference."""
        if self.replies < _LEAST_REPLIES or self._bytes_moment < _LEAST_SPREAD_BYTES**2:
            return None
        if self._joint_moment <= 0.0:
            return math.inf
        return self._bytes_moment / self._joint_moment
