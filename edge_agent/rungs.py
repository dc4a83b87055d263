"""The rungs that may say a token, and what they say."""

from __future__ import annotations

from typing import NamedTuple

CLOUD_RUNG = "cloud"
# No rung at all: the grammar left no choice.
FORCED_RUNG = "forced"


def edge_rung(stage: int) -> str:
    """The name of an edge stage's rung: `edge-1` is the first."""
    return f"edge-{stage + 1}"


class Guess(NamedTuple):
    """What an exit would say, and how sure it is."""

    token: int
    confidence: float


class DecodedToken(NamedTuple):
    """A kept token: who answered, how sure, and whether the cloud was wanted but away."""

    token: int
    rung: str
    confidence: float
    degraded: bool
