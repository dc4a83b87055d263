"""How long the cloud takes to answer on this link, and so when a silent step is sent again. Sans I/O.

Smoothed mean and deviation as TCP keeps them (RFC 6298). Of an answer to a step that was sent twice
nobody knows which one it answers; its time since the first is taken all the same, which errs on the
patient side and lets the estimate follow a link that has become slower.
"""

from __future__ import annotations

from dataclasses import dataclass

_MEAN_GAIN = 1 / 8
_DEVIATION_GAIN = 1 / 4
_DEVIATIONS = 4
# A worker's queue and a busy machine make short times jump.
_LEAST_S = 0.05


@dataclass(slots=True)
class ReplyTime:
    """The reply times of one link, over all its sessions; None before the first answer."""

    mean_s: float | None = None
    deviation_s: float = 0.0

    def observe(self, reply_s: float) -> None:
        """An answer to a step of few rows came after `reply_s`."""
        if self.mean_s is None:
            self.mean_s, self.deviation_s = reply_s, reply_s / 2
            return
        self.deviation_s += _DEVIATION_GAIN * (abs(reply_s - self.mean_s) - self.deviation_s)
        self.mean_s += _MEAN_GAIN * (reply_s - self.mean_s)

    @property
    def likely_s(self) -> float:
        """How long the next answer will hardly exceed; 0 as long as nothing is known."""
        return 0.0 if self.mean_s is None else self.mean_s + 2 * self.deviation_s

    def resend_after_s(self, longest_s: float) -> float:
        """When a step or its reply is likely lost; `longest_s` as long as nothing is known."""
        if self.mean_s is None:
            return longest_s
        return min(longest_s, max(_LEAST_S, self.mean_s + _DEVIATIONS * self.deviation_s))
