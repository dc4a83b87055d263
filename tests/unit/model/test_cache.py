"""One session's keys and values: growth, frontier, rollback."""

from __future__ import annotations

import pytest
import torch

from shared.model.cache import BLOCK_TOKENS, StageCache, most_room


def rows(count: int, value: float) -> torch.Tensor:
    return torch.full((2, count, 4), value)


def append(cache: StageCache, count: int, value: float) -> tuple[torch.Tensor, torch.Tensor]:
    cache.reserve(count)
    end = cache.frontier + count
    for keys, values in zip(*cache.views(cache.frontier, end), strict=True):
        keys.copy_(rows(count, value))
        values.copy_(rows(count, -value))
    cache.advance(count)
    all_keys, all_values = cache.views(0, end)
    return all_keys[-1], all_values[-1]


def test_a_new_cache_holds_nothing() -> None:
    cache = StageCache(3, 2, 4, torch.float32)
    assert (cache.frontier, cache.nbytes) == (0, 0)


def test_rows_keep_their_values_as_the_cache_grows() -> None:
    cache = StageCache(3, 2, 4, torch.float32)
    for value in range(5 * BLOCK_TOKENS):
        keys, values = append(cache, 1, value)
    expected = torch.arange(5 * BLOCK_TOKENS, dtype=torch.float32)
    assert torch.equal(keys[0, :, 0], expected)
    assert torch.equal(values[1, :, 3], -expected)


def test_layers_have_rows_of_their_own() -> None:
    cache = StageCache(3, 2, 4, torch.float32)
    cache.reserve(2)
    for layer, (keys, values) in enumerate(zip(*cache.views(0, 2), strict=True)):
        keys.fill_(layer)
        values.fill_(-layer)
    keys, values = cache.views(1, 2)
    assert [float(each.mean()) for each in keys] == [0.0, 1.0, 2.0]
    assert [float(each.mean()) for each in values] == [0.0, -1.0, -2.0]


@pytest.mark.parametrize("step", [1, 7, 63, 64, 65, 200, 1023, 1025])
def test_no_cache_has_room_for_more_than_is_foretold(step: int) -> None:
    cache = StageCache(1, 1, 1, torch.float32)
    for _ in range(min(400, 5000 // step)):
        cache.reserve(step)
        cache.advance(step)
        assert cache.nbytes <= most_room(cache.frontier) * 2 * 4


def test_growth_allocates_seldom_and_counts_its_bytes() -> None:
    cache = StageCache(3, 2, 4, torch.float32)
    sizes = set()
    for value in range(1000):
        append(cache, 1, value)
        sizes.add(cache.nbytes)
    assert len(sizes) <= 6
    per_token_bytes = 3 * 2 * 2 * 4 * 4
    assert 1000 * per_token_bytes <= cache.nbytes <= 2 * 1000 * per_token_bytes


def test_writing_does_not_move_the_frontier_so_a_failed_forward_leaves_no_trace() -> None:
    cache = StageCache(3, 2, 4, torch.float32)
    append(cache, 5, 1.0)
    cache.reserve(3)
    new_keys, _ = cache.views(5, 8)
    new_keys[0].copy_(rows(3, 9.0))
    assert cache.frontier == 5


def test_truncate_forgets_from_the_position_on_and_never_moves_forward() -> None:
    cache = StageCache(3, 2, 4, torch.float32)
    append(cache, 10, 1.0)
    cache.truncate(4)
    assert cache.frontier == 4
    cache.truncate(7)
    assert cache.frontier == 4
    with pytest.raises(ValueError, match="0 or more"):
        cache.truncate(-1)
