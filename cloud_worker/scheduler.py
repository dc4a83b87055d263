"""Which rows run together in the next forward. Sans I/O.

Continuous batching: a batch takes sessions in the order in which their oldest work came, and from
each session as many of its works as follow one another without a gap, until the batch's rows are
used up. Works of one session never overtake each other, and a rewrite (work that starts before the
end of the one before it) waits for the next batch, where the engine cuts the cache back first.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from cloud_worker.work import Work
from shared.errors import BusyError
from shared.wire.topics import SessionAddress


class Scheduler:
    """Works waiting for the engine, by session.

    Args:
        batch_tokens: rows of one forward; a single work may exceed it and then runs alone.
        max_waiting: works that may wait, over all sessions.
        max_waiting_bytes: their states; room for a few of the longest logs.
    """

    def __init__(
        self, *, batch_tokens: int = 2048, max_waiting: int = 4096, max_waiting_bytes: int = 256 << 20
    ) -> None:
        self.batch_tokens = batch_tokens
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._queues: OrderedDict[SessionAddress, deque[Work]] = OrderedDict()
        self._waiting = 0
        self._rows = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._waiting

    def __contains__(self, address: SessionAddress) -> bool:
        return address in self._queues

    @property
    def rows(self) -> int:
        """Rows of all waiting works."""
        return self._rows

    def add(self, work: Work) -> None:
        """Queue a work.

        Raises:
            BusyError: the queue is full; the sender may try another worker.
        """
        if self._waiting >= self._max_waiting or self._bytes + len(work.states) > self._max_waiting_bytes:
            msg = f"{self._waiting} steps of {self._bytes} bytes are waiting; this worker takes no more"
            raise BusyError(msg)
        self._queues.setdefault(work.address, deque()).append(work)
        self._count(work, 1)

    def drop(self, address: SessionAddress) -> int | None:
        """Forget a session's waiting works; the lowest position among them, None if there were none."""
        works = self._queues.pop(address, ())
        for work in works:
            self._count(work, -1)
        return min((work.from_position for work in works), default=None)

    def next_batch(self) -> list[Work]:
        """Take the works of the next forward, at most `batch_tokens` rows unless one alone has more."""
        batch: list[Work] = []
        room = self.batch_tokens
        for address in list(self._queues):
            taken = self._take_run(address, room, first=not batch)
            batch += taken
            room -= sum(work.count for work in taken)
            if room <= 0:
                break
        for work in batch:
            self._count(work, -1)
        return batch

    def _count(self, work: Work, sign: int) -> None:
        """Count a work in or out."""
        self._waiting += sign
        self._rows += sign * work.count
        self._bytes += sign * len(work.states)

    def _take_run(self, address: SessionAddress, room: int, *, first: bool) -> list[Work]:
        """The gapless works at the head of a session's queue that fit."""
        queue = self._queues[address]
        taken: list[Work] = []
        while queue:
            work = queue[0]
            fits = work.count <= room or (first and not taken)
            follows = not taken or work.from_position == taken[-1].end_position
            if not (fits and follows):
                break
            taken.append(queue.popleft())
            room -= work.count
        if not queue:
            del self._queues[address]
        elif taken:
            self._queues.move_to_end(address)
        return taken
