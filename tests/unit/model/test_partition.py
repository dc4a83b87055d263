"""The ladder of stages: what is planned, and what is refused with a way out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UnsupportedModelError
from shared.model.partition import Partition, StagePlan


def test_edge_stages_end_at_each_exit_and_the_cloud_has_the_rest() -> None:
    partition = Partition.plan(24, [8, 16])
    assert partition.edge_stages == (StagePlan(0, 0, 8), StagePlan(1, 8, 16))
    assert partition.cloud_stage == StagePlan(2, 16, 24)


def test_the_split_is_the_last_exit_unless_given() -> None:
    assert Partition.plan(12, [3, 6]).split == 6
    assert Partition.plan(12, [3, 6], 6).exits == (3, 6)


def test_a_split_beyond_the_last_exit_adds_an_exit_so_the_edge_can_answer_alone() -> None:
    partition = Partition.plan(12, [3], 9)
    assert partition.exits == (3, 9)
    assert partition.edge_stages[-1] == StagePlan(1, 3, 9)


def test_exits_may_come_in_any_order() -> None:
    assert Partition.plan(12, [6, 3]).exits == (3, 6)


@pytest.mark.parametrize(
    ("layers", "exits", "split", "says"),
    [
        (12, [], None, "--exits 6"),
        (12, [0], None, "choose exits from 1 to 11"),
        (12, [12], None, "choose exits from 1 to 11"),
        (12, [-3, 4], None, "Exit -3 lies outside"),
        (12, [4, 4], None, "Name each exit once"),
        (12, [4, 8], 6, "Use --split 8"),
        (12, [4], 12, "choose 1 to 11"),
        (12, [4], 0, "choose 1 to 11"),
        (1, [1], None, "at least 2"),
    ],
)
def test_an_impossible_cut_is_refused_with_the_way_out(
    layers: int, exits: list[int], split: int | None, says: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=says):
        Partition.plan(layers, exits, split)


@given(st.data())
def test_stages_cover_every_layer_once_in_order(data: st.DataObject) -> None:
    layers = data.draw(st.integers(2, 80))
    exits = data.draw(st.sets(st.integers(1, layers - 1), min_size=1))
    split = data.draw(st.none() | st.integers(max(exits), layers - 1))
    partition = Partition.plan(layers, exits, split)
    stages = [*partition.edge_stages, partition.cloud_stage]
    assert [layer for stage in stages for layer in stage.layers] == list(range(layers))
    assert [stage.end_layer for stage in partition.edge_stages] == list(partition.exits)
    assert [stage.index for stage in stages] == list(range(len(stages)))
