"""One session's works that wait, in their order. Sans I/O."""

from __future__ import annotations

from collections import deque

from cloud_worker.work import Work


class Line:
    """Works of one session, first in, first out; the first may be taken in parts.

    Attributes:
        rows: of all of them that wait still.
    """

    def __init__(self) -> None:
        self._works: deque[Work] = deque()
        self.rows = 0

    def __len__(self) -> int:
        return len(self._works)

    def add(self, work: Work) -> None:
        """Queue a work behind the others."""
        self._works.append(work)
        self.rows += work.count

    def take(self, room: int, *, at_least_one: bool = False, divide: bool = False) -> list[Work]:
        """The gapless works at the head that fit.

        A rewrite, work that starts before the end of the one before it, ends the run: the cache is cut
        back for it first.

        Args:
            room: rows.
            at_least_one: take the first whatever its size.
            divide: take a part of the last one where the whole does not fit.
        """
        taken: list[Work] = []
        while self._works and (not taken or self._works[0].from_position == taken[-1].end_position):
            work = self._works[0]
            # What can't be divided is malformed: the engine refuses it without running a row.
            is_whole = work.count <= room or (divide and not work.is_divisible)
            if is_whole or (at_least_one and not taken):
                taken.append(self._works.popleft())
            elif divide and room > 0:
                taken.append(work.part(0, room))
                self._works[0] = work.part(room, work.count - room)
            else:
                break
            room -= taken[-1].count
        self.rows -= sum(work.count for work in taken)
        return taken

    def clear(self) -> list[Work]:
        """Take all, as they came: a work of which a part was taken is whole again."""
        works = list(self._works)
        self._works.clear()
        self.rows = 0
        return works
