"""The ladder of stages: which layers live where, and after which of them an exit stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from shared.errors import UnsupportedModelError


@dataclass(frozen=True)
class StagePlan:
    """One rung: the contiguous layers `first_layer <= layer < end_layer`."""

    index: int
    first_layer: int
    end_layer: int

    @property
    def layers(self) -> range:
        """The model's own layer numbers in this stage."""
        return range(self.first_layer, self.end_layer)


@dataclass(frozen=True)
class Partition:
    """A model of `layers` layers, cut after each of `exits` and handed to the cloud at `split`.

    `exits` are counts of layers, ascending; the last one equals `split`, so that the edge can always
    answer alone. Build it with `plan`, which checks.
    """

    layers: int
    exits: tuple[int, ...]
    split: int

    @classmethod
    def plan(cls, layers: int, exits: Iterable[int], split: int | None = None) -> Self:
        """Check and complete a partition.

        Args:
            layers: how many layers the model has.
            exits: after how many layers each exit stands; any order.
            split: how many layers the edge holds; the last exit if not given. A split beyond the last
                exit adds an exit there.

        Raises:
            UnsupportedModelError: the model can't be cut so; the message says where it can.
        """
        ladder = tuple(sorted(exits))
        _check_exits(layers, ladder)
        split = ladder[-1] if split is None else split
        _check_split(layers, ladder, split)
        if split > ladder[-1]:
            ladder = (*ladder, split)
        return cls(layers=layers, exits=ladder, split=split)

    @property
    def edge_stages(self) -> tuple[StagePlan, ...]:
        """The stages that the edge runs, each ended by an exit."""
        bounds = pairwise((0, *self.exits))
        return tuple(StagePlan(index, first, end) for index, (first, end) in enumerate(bounds))

    @property
    def cloud_stage(self) -> StagePlan:
        """The last stage: the layers from `split` on, ended by the model's own head."""
        return StagePlan(len(self.exits), self.split, self.layers)


def _check_exits(layers: int, ladder: tuple[int, ...]) -> None:
    if layers < 2:
        raise UnsupportedModelError(f"A model of {layers} layer(s) can't be split; use one with at least 2.")
    if not ladder:
        raise UnsupportedModelError(
            f"No exit was given. Name at least one, for example --exits {max(1, layers // 2)}."
        )
    if len(set(ladder)) != len(ladder):
        raise UnsupportedModelError(f"Exits {_list(ladder)} name a layer twice. Name each exit once.")
    outside = [exit_layer for exit_layer in ladder if not 1 <= exit_layer < layers]
    if outside:
        raise UnsupportedModelError(
            f"Exit {_list(outside)} lies outside the model. It has {layers} layers: "
            f"choose exits from 1 to {layers - 1}, so that the cloud keeps at least one."
        )


def _check_split(layers: int, ladder: tuple[int, ...], split: int) -> None:
    if not 1 <= split < layers:
        raise UnsupportedModelError(
            f"Split {split} lies outside the model. It has {layers} layers: choose 1 to {layers - 1}."
        )
    if ladder[-1] > split:
        raise UnsupportedModelError(
            f"Exit {ladder[-1]} lies beyond the split at {split}, where the edge has no layers. "
            f"Use --split {ladder[-1]} or leave that exit out."
        )


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in numbers)
