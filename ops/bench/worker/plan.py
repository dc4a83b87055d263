"""What the bench runs, in its usual size and in a small one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ops.bench.random_llama import LlamaShape

LLAMA_100M: Final = LlamaShape(1024, 2816, 8, (1,), 8192, positions=8192)
"""About 100 M parameters in the cloud: seven layers and the LM head."""

_QUICK: Final = LlamaShape(64, 128, 4, (1,), 320, positions=1024)


@dataclass(frozen=True)
class Plan:
    """Sizes of one run.

    Attributes:
        shape: of the model.
        sessions: levels, each so many sessions that step at once.
        seconds: how long each level is measured. warm_up_s: and how long it runs before that.
        prompt_tokens: of each session, before it steps.
        long_prompt_tokens: of the session that is prefilled beside eight others that step.
        beside: sessions that step meanwhile.
    """

    shape: LlamaShape = LLAMA_100M
    sessions: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    seconds: float = 4.0
    warm_up_s: float = 1.0
    prompt_tokens: int = 16
    long_prompt_tokens: int = 4096
    beside: int = 8

    @classmethod
    def quick(cls) -> Plan:
        """To see that it works: a tiny model, a second or so for each kind of worker."""
        return cls(
            _QUICK, (1, 8), seconds=0.4, warm_up_s=0.1, prompt_tokens=4, long_prompt_tokens=128, beside=4
        )

    @property
    def most_sessions(self) -> int:
        """Of the largest level."""
        return max(self.sessions)
