"""What the session's worker holds of its states, and the steps that bring it the rest. Sans I/O.

Theory. A worker takes a step whose rows begin at or below its frontier, and cuts off what it had there.
As long as the text only grows that is all there is to it: a lost step leaves a gap, and a gap is
answered by `Resume`. Once the text is rewound, a lost step may also leave *old rows below the frontier*,
which nobody could see. Two rules keep them out:

- Each step names the one that it builds on (`Step.after`): the one before it, or for the first of a run of
  steps the newest that the worker says it has taken. So a worker that missed one takes none of those behind
  it, and one that has lost the session meanwhile takes none at all.
- What a worker says of its frontier is believed only up to the lowest row that was rewritten since the step
  that it has taken. Nobody has taken a step of a new epoch: what a new worker speaks for is a log, and is
  believed up to the lowest row rewritten ever. Prompts are never rewound, so what is sent twice is little,
  and only after something was lost.

Why that is enough: say that the worker's rows were right for the text when it took step t. A run of steps
begins at or below every row rewritten since t, whatever old steps the worker takes meanwhile. So when it has
taken the run up to step n, its rows are right for the text when n went up; and so on from n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from edge_agent.states import StateLog
from edge_agent.want import Want
from shared.tensors.compression import pack
from shared.wire.messages import Step

# A chunk of prefill holds up everybody's tokens behind it: 64 KB cost 0.5 ms, 8 MB cost 16–42 ms.
CHUNK_BYTES = 64 * 1024


class _Rewind(NamedTuple):
    """The states from `position` on have changed since step `number` went up."""

    number: int
    position: int


class Upload:
    """The edge's belief about one worker.

    Args:
        states: the session's encoded hidden states.
        codec: how they travel; one that compresses leaves the rows themselves in `rows_codec`.

    Attributes:
        sent: the worker holds the states below, as far as the edge knows.
        rows_sent: positions uploaded, repeats counted.
    """

    def __init__(self, states: StateLog, codec: str) -> None:
        self._states = states
        self._codec = codec
        self.sent = 0
        self.rows_sent = 0
        self._epoch = 0
        self._number = 0
        self._first_number = 1  # of the newest run of steps; a word about an older step is out of date
        self._builds_on = 0
        self._sent_ever = 0  # whatever is below may be held by somebody, in some version
        self._rewinds: list[_Rewind] = []  # ascending in both; one that a later one covers is dropped

    def begin(self, epoch: int) -> None:
        """A worker is looked for; steps are counted anew."""
        self._epoch, self._number = epoch, 0
        self._rewinds = [_Rewind(0, each.position) for each in self._rewinds[:1]]

    def open_at(self, frontier: int) -> None:
        """A worker has the session, and of its log the states below `frontier`."""
        self.resume_at(frontier, 0)

    def resume_at(self, frontier: int, taken: int) -> None:
        """A new run of steps begins, where the worker's states end or earlier.

        Args:
            frontier: how far the worker holds the session.
            taken: the newest step of this epoch that it has taken; 0: none.
        """
        rewritten = [rewind.position for rewind in self._rewinds if rewind.number >= taken]
        self.sent = min(frontier, self._states.frontier, *rewritten)
        self._first_number, self._builds_on = self._number + 1, taken

    def rewind(self, position: int) -> None:
        """The states from `position` on have changed."""
        self.sent = min(self.sent, position)
        if self._sent_ever > position:
            while self._rewinds and self._rewinds[-1].position >= position:
                self._rewinds.pop()
            self._rewinds.append(_Rewind(self._number, position))

    def is_current(self, number: int) -> bool:
        """Whether a word about a step is about the newest run."""
        return number >= self._first_number

    def steps(self, wants: Sequence[Want], end: int) -> list[Step]:
        """Everything the worker lacks below `end`, in chunks.

        A wanted position goes up even if the worker has it (from a log, say): its row draws the token.

        Args:
            wants: ascending, below `end`.
            end: how far.
        """
        start = min([self.sent, *(want.position for want in wants[:1])])
        chunk = max(1, CHUNK_BYTES // self._states.row_bytes)
        steps = [self._step(first, min(first + chunk, end), wants) for first in range(start, end, chunk)]
        if steps:
            self.rows_sent += end - start
            self.sent = end  # also where it was further: a step cuts off what was behind it
            self._sent_ever = max(self._sent_ever, end)
        return steps

    def _step(self, first: int, after: int, wants: Sequence[Want]) -> Step:
        inside = [want for want in wants if first <= want.position < after]
        allowed = [want.sent_ids for want in inside]
        builds_on, self._builds_on = self._builds_on, self._number + 1
        self._number += 1
        packed = pack(self._codec, self._states.rows(first, after))
        return Step(
            self._epoch,
            self._number,
            first,
            after - first,
            packed.states,
            [want.position for want in inside],
            allowed if any(allowed) else [],
            builds_on,
            packed.codec,
        )
