"""Paths over token ids: shared beginnings are followed side by side, nothing else is allowed."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from edge_agent.token_paths import Path, TokenPaths


def end() -> Iterable[Path]:
    return iter(())


def words(*choices: tuple[int, ...], then=end) -> list[Path]:
    return [Path(choice, then) for choice in choices]


def test_paths_that_begin_alike_part_where_they_differ():
    paths = TokenPaths(words((1, 2, 3), (1, 4), (5,)))
    assert paths.allowed() == [1, 5]
    paths.accept(1)
    assert paths.allowed() == [2, 4]
    paths.accept(2)
    assert paths.allowed() == [3]


def test_a_path_that_ends_inside_another_leaves_both_ways_open():
    paths = TokenPaths([Path((1,), lambda: words((9,))), *words((1, 2))])
    paths.accept(1)
    assert paths.allowed() == [2, 9]


def test_an_empty_path_stands_for_what_follows_it():
    paths = TokenPaths([Path((), lambda: words((7,), (8,)))])
    assert paths.allowed() == [7, 8]


def test_nothing_is_allowed_after_the_end():
    paths = TokenPaths(words((1,)))
    paths.accept(1)
    assert paths.allowed() == []


def test_a_token_off_every_path_is_an_error():
    paths = TokenPaths(words((1,)))
    with pytest.raises(ValueError, match="token 2 is not allowed"):
        paths.accept(2)


def test_endless_grammars_unfold_only_as_far_as_they_are_walked():
    def again() -> Iterable[Path]:
        return [Path((1,), again), Path((2,), end)]

    paths = TokenPaths(again())
    for _ in range(1_000):
        paths.accept(1)
    assert paths.allowed() == [1, 2]
