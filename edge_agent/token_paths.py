"""A grammar over token ids, unfolded while it is walked: what a trie is when it would be too large to build.

A `Path` is a run of tokens and what may follow it. Several paths may share their first tokens (two
lamps called "bedroom …"); all that still fit are followed side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from typing import NamedTuple, Self


class Path(NamedTuple):
    """Tokens, and the paths that may follow them; an empty run only stands for its followers."""

    tokens: tuple[int, ...]
    then: Callable[[], Iterable[Path]]


class _Thread(NamedTuple):
    path: Path
    place: int  # of the token that comes next


class TokenPaths:
    """A `Constraint` that walks paths from a start.

    Args:
        start: the paths that an answer may begin with. Paths must not end before a stop token has come:
            after the last token of all, nothing is allowed.
    """

    def __init__(self, start: Iterable[Path]) -> None:
        self._threads = list(_unfolded(start))

    def allowed(self) -> list[int]:
        """The ids that may come next, ascending; empty after the end."""
        return sorted({thread.path.tokens[thread.place] for thread in self._threads})

    def accept(self, token: int) -> None:
        """Follow the paths on which `token` comes next.

        Raises:
            ValueError: there is none.
        """
        kept = [thread for thread in self._threads if thread.path.tokens[thread.place] == token]
        if not kept:
            msg = f"token {token} is not allowed here"
            raise ValueError(msg)
        self._threads = [after for thread in kept for after in _stepped(thread)]

    def fork(self) -> Self:
        """One that stands where this one does, and goes its own way from here on."""
        return copy(self)  # the list of threads is replaced by `accept`, never changed


def _stepped(thread: _Thread) -> Iterator[_Thread]:
    if thread.place + 1 < len(thread.path.tokens):
        yield _Thread(thread.path, thread.place + 1)
    else:
        yield from _unfolded(thread.path.then())


def _unfolded(paths: Iterable[Path]) -> Iterator[_Thread]:
    for path in paths:
        if path.tokens:
            yield _Thread(path, 0)
        else:
            yield from _unfolded(path.then())
