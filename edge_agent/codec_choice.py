"""Which codec a session's states travel in: the finest that the link carries unnoticed. Sans I/O.

    wanted quality ──► codecs whose agreement, as calibrated, is at least that
    uplink rate ─────► the finest of them whose row is up in `UNNOTICED_S`; if none is, the shortest

Rows are encoded once and kept for as long as the session lives, so the choice is made when it starts and
stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shared.model.calibration import CodecScore

AUTO: Final = "auto"
# Nothing is known of the bundle, or of the link: what no model's text has suffered from.
FALLBACK: Final = "fp16"
# Where the text has to be the unsplit model's.
EXACT: Final = "fp32"
# Of a request that names no quality: at most one token in two hundred differs.
QUALITY: Final = 0.995
# Per row: a prompt of four hundred tokens is up in less than a tenth of a second.
UNNOTICED_S: Final = 0.0002


def choose_codec(
    scores: Sequence[CodecScore], uplink_bytes_per_s: float | None, quality: float | None = None
) -> str:
    """A session's codec.

    Args:
        scores: as calibrated with the bundle; empty: it has none.
        uplink_bytes_per_s: as measured on this link; None: not known yet.
        quality: wanted share of the cloud's tokens that exact states would give; None: `QUALITY`.

    Returns:
        The name of a codec.
    """
    if not scores or uplink_bytes_per_s is None:
        return FALLBACK
    finest_first = sorted(scores, key=lambda score: (-score.agreement, score.bytes_per_token))
    wanted = QUALITY if quality is None else quality
    good = [score for score in finest_first if score.agreement >= wanted] or finest_first[:1]
    unnoticed = [score for score in good if score.bytes_per_token <= uplink_bytes_per_s * UNNOTICED_S]
    chosen = unnoticed[0] if unnoticed else min(good, key=lambda score: score.bytes_per_token)
    return chosen.name
