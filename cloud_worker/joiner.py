"""Makes one result of a work's parts: whoever asked has asked once. Sans I/O."""

from __future__ import annotations

from collections.abc import Iterable

from cloud_worker.work import Done, Work
from shared.errors import ContextGapError
from shared.wire.topics import SessionAddress


class Joiner:
    """Keeps the results of parts until the last one is run."""

    def __init__(self) -> None:
        self._parts: dict[SessionAddress, list[Done]] = {}

    def __len__(self) -> int:
        return len(self._parts)

    def join(self, done: Done) -> Done | None:
        """The result of a whole work, once there is one: with its last part, or the first that fails."""
        whole = done.work.whole
        parts = self._parts.pop(done.work.address, [])
        if whole is None:
            return done
        parts = [*(part for part in parts if part.work.whole is whole), done]
        if done.error is None and done.work.end_position < whole.end_position:
            self._parts[whole.address] = parts
            return None
        return _joined(whole, parts)

    def forget(self, addresses: Iterable[SessionAddress]) -> None:
        """These sessions' works are not waited for any more."""
        for address in addresses:
            self._parts.pop(address, None)


def _joined(whole: Work, parts: list[Done]) -> Done:
    error = parts[-1].error
    if isinstance(error, ContextGapError):
        # Rows of parts that went well have no place in the log: the edge sends the whole work again.
        error = ContextGapError(str(error), min(error.frontier, whole.from_position))
    return Done(
        whole,
        tuple(token for part in parts for token in part.tokens),
        compute_us=sum(part.compute_us for part in parts),
        queue_us=parts[0].queue_us,
        batch_sessions=max(part.batch_sessions for part in parts),
        error=error,
    )
