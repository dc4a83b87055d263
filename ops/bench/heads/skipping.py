"""What it would save to leave out the last exit's head where the first exit's confidence is hopeless."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ops.bench.heads.texts import Unsure


class Skipping(NamedTuple):
    """A rule that was made on one half of the places, and tried on the other.

    Attributes:
        places: in the half that it was tried on.
        saved: share of the last exit's heads that are left out.
        lost: share of tokens that go to the cloud though the last exit was sure: texts may change.
    """

    places: int
    saved: float
    lost: float


def try_skipping(unsure: Sequence[Unsure]) -> Skipping:
    """Leave out the last head below the lowest first confidence that the last exit was ever sure after."""
    made_on, tried_on = unsure[::2], unsure[1::2]
    below = min((place.confidence for place in made_on if place.last_is_sure), default=1.0)
    skipped = [place for place in tried_on if place.confidence < below]
    count = max(1, len(tried_on))
    lost = sum(place.last_is_sure for place in skipped)
    return Skipping(len(tried_on), len(skipped) / count, lost / count)
