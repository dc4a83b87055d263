"""Whether states go up before anything is asked about them. Sans I/O.

States that are there already when the first question comes save the wait for their upload, a whole
prompt's on a slow link; of an answer that never asks they are bytes for nothing. So the edge goes by
what its answers did lately.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

UploadTime = Literal["auto", "eager", "lazy"]

_GAIN = 1 / 8
_ENOUGH = 0.5


@dataclass(slots=True)
class AskingShare:
    """The share of recent answers that asked the cloud at all.

    Attributes:
        upload: `auto` goes by that share; the others don't.
        share: 0 to 1.
    """

    upload: UploadTime = "auto"
    share: float = _ENOUGH

    def observe(self, asked: bool) -> None:
        """An answer is complete."""
        self.share += _GAIN * ((1.0 if asked else 0.0) - self.share)

    def is_eager(self, *, certain: bool) -> bool:
        """Whether the next answer's states go up at once.

        Args:
            certain: it will ask, whatever others did.
        """
        if self.upload == "auto":
            return certain or self.share >= _ENOUGH
        return self.upload == "eager"
