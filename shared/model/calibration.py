"""What was measured of a bundle's exits: thresholds that keep a promised agreement, and what they cost."""

from __future__ import annotations

import msgspec

from shared.errors import PromptError
from shared.model.confidence import Measure


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One promise: thresholds, and what was measured with them on text that chose none of them.

    Every share and rate is of *decided* tokens: those that a grammar forces are nobody's merit.

    Attributes:
        agreement: promised share of an answer's tokens that are the full model's choice, on average.
        thresholds: one for each exit, shallowest first.
        measured_agreement: that share as measured.
        exit_shares: rung → share of tokens that it answered.
        request_rate: cloud requests per token.
        uplink_bytes_per_token: encoded states sent to the cloud per token, without message headers.
        cloud_us_per_token: time in the cloud's stage and head per token, on the machine that calibrated.
    """

    agreement: float
    thresholds: tuple[float, ...]
    measured_agreement: float
    exit_shares: dict[str, float]
    request_rate: float
    uplink_bytes_per_token: float
    cloud_us_per_token: float


class CodecScore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the cloud's tokens lose when states travel in a codec.

    Attributes:
        name: of the codec.
        bytes_per_token: of a row, at the bundle's width.
        agreement: share of the cloud's greedy tokens that are the same as from exact states, along the
            full model's answers to the testing texts.
    """

    name: str
    bytes_per_token: int
    agreement: float


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bundle's trade-off between agreement and cloud use.

    Attributes:
        exits_sha256: of the exit heads it is about; with other heads it says nothing.
        measure: what the exits' confidence is.
        temperatures: one for each exit.
        confidence: probability with which each level's promise holds.
        codec: how states travelled.
        documents: answers that the promises were tested on.
        tokens: decided tokens in them.
        levels: by agreement, ascending.
        codecs: each codec's score; empty in a calibration that is older than them.
    """

    exits_sha256: str
    measure: Measure
    temperatures: tuple[float, ...]
    confidence: float
    codec: str
    documents: int
    tokens: int
    levels: tuple[Level, ...]
    codecs: tuple[CodecScore, ...] = ()


def level_for(calibration: Calibration | None, quality: float) -> Level:
    """The cheapest level that promises at least `quality`.

    Args:
        calibration: the bundle's, if it has one.
        quality: wanted share of tokens that are the full model's, 0 to 1.

    Raises:
        PromptError: the bundle has no such level; the message names those it has.
    """
    if calibration is None:
        raise PromptError(
            "this bundle is not calibrated, so no quality can be promised: run `antiphon model calibrate` "
            "on it, or ask with a threshold instead"
        )
    for level in calibration.levels:
        if level.agreement >= quality:
            return level
    there = ", ".join(f"{level.agreement:g}" for level in calibration.levels) or "none"
    raise PromptError(
        f"this bundle has no level of quality {quality:g} or better; it has: {there}. Ask for one of those, "
        "calibrate on more text, or use threshold 1 for the full model's text"
    )
