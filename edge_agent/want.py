"""A question to the cloud: which token follows a position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shared.wire.messages import MAX_ALLOWED


class Want(NamedTuple):
    """The token after `position` is wanted.

    Attributes:
        position: of the row whose successor it is.
        allowed: ids it may be; None: any. More than a step can carry are not sent, and the reply may then
            be none of them.
    """

    position: int
    allowed: Sequence[int] | None = None

    @property
    def sent_ids(self) -> list[int]:
        """What a step says of `allowed`; empty: nothing."""
        return [] if self.allowed is None or len(self.allowed) > MAX_ALLOWED else list(self.allowed)
