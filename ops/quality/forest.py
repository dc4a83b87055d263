"""Many questions answered under many policies, packed into few forwards."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ops.quality.ladder import Ladder, Lane
from ops.quality.policy import Missing, Policy, Trace, walk
from ops.quality.question import Question
from ops.quality.tree import Tree

# Questions that are decoded side by side: more make products no faster, and their KV caches must fit.
_MOST_LANES: Final = 96
_CACHE_BYTES: Final = 1 << 30

Progress = Callable[[int, int], None]  # done, and in all
Begin = Callable[[str], Progress]  # called with a part's title when it begins
_Answers = Generator[Missing, None, list[Trace]]


def unseen(title: str) -> Progress:  # noqa: ARG001  the port's signature
    """A `Begin` that shows nothing."""
    return lambda _done, _total: None


@dataclass
class _Seat:
    """A question at work."""

    index: int
    tree: Tree
    lane: Lane
    answers: _Answers
    missing: Missing


class Forest:
    """Questions and what is known of their answers; nothing that is known is computed again.

    Args:
        ladder: computes what is missing.
        questions: each gets a tree.
    """

    def __init__(self, ladder: Ladder, questions: Iterable[Question]) -> None:
        self.ladder = ladder
        self.trees = [Tree(question) for question in questions]
        self._lanes = lanes(max((ladder.lane_bytes(tree.question) for tree in self.trees), default=0))

    def decode(
        self,
        policies: Sequence[Policy],
        chosen: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> list[list[Trace]]:
        """Answer questions under each policy.

        Args:
            policies: how.
            chosen: indices of the questions; None: all.
            progress: called with questions done and in all.

        Returns:
            For each policy, an answer to each chosen question, in their order.
        """
        indices = range(len(self.trees)) if chosen is None else chosen
        done: dict[int, list[Trace]] = {}
        waiting = iter(indices)
        seats = self._fill([], waiting, policies, done)
        while seats:
            self._extend(seats)
            seats = self._fill([seat for seat in seats if _goes_on(seat, done)], waiting, policies, done)
            if progress is not None:
                progress(len(done), len(indices))
        return [[done[index][line] for index in indices] for line in range(len(policies))]

    def _fill(
        self,
        seats: list[_Seat],
        waiting: Iterable[int],
        policies: Sequence[Policy],
        done: dict[int, list[Trace]],
    ) -> list[_Seat]:
        """Seat waiting questions; those that need no forward at all are done at once."""
        while len(seats) < self._lanes and (index := next(iter(waiting), None)) is not None:
            tree = self.trees[index]
            answers = _answers(tree, policies)
            try:
                missing = next(answers)
            except StopIteration as end:
                done[index] = end.value
            else:
                seats.append(_Seat(index, tree, self.ladder.lane(tree.question), answers, missing))
        return seats

    def _extend(self, seats: list[_Seat]) -> None:
        branches = self.ladder.extend([(seat.lane, seat.missing) for seat in seats])
        for seat, branch in zip(seats, branches, strict=True):
            place, token = seat.missing.place, seat.missing.token
            if place is None or token is None:
                seat.tree.root = branch
            else:
                place.after[token] = branch


def lanes(lane_bytes: int) -> int:
    """How many questions are decoded side by side, if the caches of one take as much as `lane_bytes`."""
    return max(1, min(_MOST_LANES, _CACHE_BYTES // max(1, lane_bytes)))


def _answers(tree: Tree, policies: Sequence[Policy]) -> _Answers:
    traces = []
    for policy in policies:
        trace = yield from walk(tree, policy)
        traces.append(trace)
    return traces


def _goes_on(seat: _Seat, done: dict[int, list[Trace]]) -> bool:
    try:
        seat.missing = next(seat.answers)
    except StopIteration as end:
        done[seat.index] = end.value
        return False
    return True
