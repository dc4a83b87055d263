"""Which rows run together in the next forward. Sans I/O.

Continuous batching. Sessions are in one of two ways:

    decoding    few rows wait: a token's, or a short catch-up
    prefilling  more rows wait: a prompt, or a log that is replayed

A batch takes the decoding sessions first and fills the rest of its rows with chunks of the prefilling ones.
Among either, edges take turns (`Turns`), and so do the sessions of each. A chunk is limited (`ChunkSize` says
to how much), and a work that is longer is taken in parts, so that a long prompt makes the others' tokens wait
for a chunk and never for the prompt.

Works of one session never overtake each other, and a rewrite (work that starts before the end of the one
before it) waits for the next batch, where the engine cuts the cache back first.
"""

from __future__ import annotations

from collections import OrderedDict

from cloud_worker.line import Line
from cloud_worker.turns import Turns
from cloud_worker.work import Work
from shared.errors import BusyError
from shared.forward_sizes import largest_within
from shared.wire.topics import SessionAddress

# A session that waits with no more rows than this decodes; a catch-up after a run of sure tokens has as many.
DECODE_ROWS = 16
# One row in so many is kept for chunks, however many sessions decode: a prompt is never put off for ever.
PREFILL_SHARE = 4


class Scheduler:
    """Works waiting for the engine, by session.

    Args:
        batch_tokens: rows of one forward; a work that is not divided may have more and then runs alone.
        max_waiting: works that may wait, over all sessions.
        max_waiting_bytes: their states; room for a few of the longest logs.

    Attributes:
        prefill_rows: how many rows of the latest batch were chunks.
    """

    def __init__(
        self, *, batch_tokens: int = 2048, max_waiting: int = 4096, max_waiting_bytes: int = 256 << 20
    ) -> None:
        self.batch_tokens = batch_tokens
        self.prefill_rows = 0
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._lines: OrderedDict[SessionAddress, Line] = OrderedDict()
        self._decode_turns = Turns()
        self._prefill_turns = Turns()
        self._waiting = 0
        self._rows = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._waiting

    def __contains__(self, address: SessionAddress) -> bool:
        return address in self._lines

    @property
    def rows(self) -> int:
        """Rows of all waiting works."""
        return self._rows

    @property
    def sessions(self) -> int:
        """How many sessions have works that wait."""
        return len(self._lines)

    def add(self, work: Work) -> None:
        """Queue a work.

        Raises:
            BusyError: the queue is full; the sender may try another worker.
        """
        if self._waiting >= self._max_waiting or self._bytes + len(work.states) > self._max_waiting_bytes:
            msg = f"{self._waiting} steps of {self._bytes} bytes are waiting; this worker takes no more"
            raise BusyError(msg)
        self._lines.setdefault(work.address, Line()).add(work)
        self._count([work], 1)

    def drop(self, address: SessionAddress) -> int | None:
        """Forget a session's waiting works; the lowest position among them, None if there were none.

        A work of which a part was taken counts from its first row: nobody has answered for it.
        """
        line = self._lines.pop(address, None)
        if line is None:
            return None
        works = line.clear()
        self._count(works, -1)
        return min((work.whole or work).from_position for work in works)

    def next_batch(self, chunk_tokens: int | None = None) -> list[Work]:
        """Take the works of the next forward.

        Args:
            chunk_tokens: rows of it that may be chunks; None: all that decoding leaves, and works are not
                divided.

        Returns:
            At most `batch_tokens` rows, unless a single work that is not divided has more. A session's works
            stand together.
        """
        decoding = [address for address, line in self._lines.items() if line.rows <= DECODE_ROWS]
        prefilling = [address for address in self._lines if self._lines[address].rows > DECODE_ROWS]
        divide = chunk_tokens is not None
        kept = self.batch_tokens // PREFILL_SHARE if prefilling else 0
        batch = self._take(
            decoding, self._decode_turns, self.batch_tokens - kept, is_first=True, divide=divide
        )
        room = self.batch_tokens - _rows(batch)
        if chunk_tokens is not None:
            # No more than fills a size: rows of nobody would take the time of a larger chunk.
            room = max(1, largest_within(_rows(batch) + min(room, chunk_tokens)) - _rows(batch))
        chunks = self._take(prefilling, self._prefill_turns, room, is_first=not batch, divide=divide)
        self.prefill_rows = _rows(chunks)
        return batch + chunks

    def _take(
        self, addresses: list[SessionAddress], turns: Turns, room: int, *, is_first: bool, divide: bool
    ) -> list[Work]:
        """Works of these sessions in turn; those that were served go behind the others of their edge."""
        taken: list[Work] = []
        for address in turns.take(addresses):
            if room <= 0:
                break
            line = self._lines[address]
            run = line.take(room, at_least_one=is_first and not taken and not divide, divide=divide)
            if run:
                turns.ran(address.edge, _rows(run))
            taken += run
            room -= _rows(run)
            if not line:
                del self._lines[address]
            elif run:
                self._lines.move_to_end(address)
        self._count(taken, -1)
        return taken

    def _count(self, works: list[Work], sign: int) -> None:
        """Count works in or out; of one that is taken in parts, the last takes it out."""
        for work in works:
            last = work.whole is None or work.end_position == work.whole.end_position
            self._waiting += sign if last else 0
            self._rows += sign * work.count
            self._bytes += sign * len(work.states)


def _rows(works: list[Work]) -> int:
    return sum(work.count for work in works)
