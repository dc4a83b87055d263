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
    """

    def __init__(self, *, batch_tokens: int = 2048, max_waiting: int = 4096) -> None:
        self._batch_tokens = batch_tokens
        self._max_waiting = max_waiting
        self._queues: OrderedDict[SessionAddress, deque[Work]] = OrderedDict()
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def add(self, work: Work) -> None:
        """Queue a work.

        Raises:
            BusyError: the queue is full; the sender may try another worker.
        """
        if self._waiting >= self._max_waiting:
            msg = f"{self._waiting} steps are waiting; this worker takes no more"
            raise BusyError(msg)
        self._queues.setdefault(work.address, deque()).append(work)
        self._waiting += 1

    def drop(self, address: SessionAddress) -> int | None:
        """Forget a session's waiting works; the lowest position among them, None if there were none."""
        works = self._queues.pop(address, ())
        self._waiting -= len(works)
        return min((work.from_position for work in works), default=None)

    def next_batch(self) -> list[Work]:
        """Take the works of the next forward, at most `batch_tokens` rows unless one alone has more."""
        batch: list[Work] = []
        room = self._batch_tokens
        for address in list(self._queues):
            taken = self._take_run(address, room, first=not batch)
            batch += taken
            room -= sum(work.count for work in taken)
            if room <= 0:
                break
        self._waiting -= len(batch)
        return batch

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
