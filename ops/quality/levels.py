"""A calibration's certified policies as the bundle keeps them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from edge_agent.rungs import CLOUD_RUNG, edge_rung
from ops.quality.calibrate import Certified, Promise
from ops.quality.costs import Costs, used
from ops.quality.ladder import Ladder
from ops.quality.policy import Reading, Trace
from ops.quality.stopwatch import Times
from shared.errors import BundleError, ConfigError
from shared.model.bundle import Bundle
from shared.model.calibration import Calibration, CodecScore, Level
from shared.model.manifest import EXITS_FILE


def decided(traces: Sequence[Trace]) -> int:
    """Tokens that some rung decided."""
    return sum(len(trace.decisions) for trace in traces)


def rung_shares(traces: Sequence[Trace], exits: int) -> dict[str, float]:
    """Rung → share of the decided tokens."""
    counts = Counter(decision.rung for trace in traces for decision in trace.decisions)
    names = [*map(edge_rung, range(exits)), CLOUD_RUNG]
    return {name: counts[index] / max(1, counts.total()) for index, name in enumerate(names)}


def level_of(kept: Certified, costs: Costs, times: Times) -> Level:
    """A certified policy with its measurements."""
    use, tokens = used(kept.traces, costs), max(1, decided(kept.traces))
    return Level(
        kept.agreement,
        kept.policy.thresholds,
        round(kept.measured, 6),
        {rung: round(share, 6) for rung, share in rung_shares(kept.traces, len(costs.stages) - 1).items()},
        round(use.requests / tokens, 6),
        round(use.uplink_bytes / tokens, 3),
        round(times.cloud_us_per_token.median, 3),
    )


def calibration_of(
    ladder: Ladder,
    promise: Promise,
    reading: Reading,
    levels: Sequence[Level],
    traces: Sequence[Trace],
    codecs: Sequence[CodecScore],
) -> Calibration:
    """What the bundle keeps; `traces` are answers to the testing texts."""
    return Calibration(
        exits_sha256=ladder.bundle.manifest.files[EXITS_FILE].sha256,
        measure=promise.measure,
        temperatures=reading.temperatures,
        confidence=promise.confidence,
        codec=ladder.codec.name,
        documents=len(traces),
        tokens=decided(traces),
        levels=tuple(levels),
        codecs=tuple(codecs),
    )


def store(bundle: Bundle, calibration: Calibration, agreement: float) -> None:
    """Put a calibration into the bundle; the level of `agreement` becomes what its exits do unasked.

    Raises:
        ConfigError: that level was not certified.
        BundleError: the bundle can't be written.
    """
    level = next((each for each in calibration.levels if each.agreement == agreement), None)
    if level is None:
        raise ConfigError(
            f"no thresholds keep an agreement of {agreement:g}: even tokens from the cloud differ from the "
            f"full model's, through the codec {calibration.codec}. Use a finer codec, or ask for less."
        )
    exits = tuple(
        msgspec.structs.replace(
            entry, threshold=threshold, temperature=temperature, measure=calibration.measure
        )
        for entry, threshold, temperature in zip(
            bundle.manifest.exits, level.thresholds, calibration.temperatures, strict=True
        )
    )
    changed = msgspec.structs.replace(bundle.manifest, exits=exits, calibration=calibration)
    try:
        changed.write(bundle.path)
    except OSError as error:
        raise BundleError(
            f"{bundle.path} can't be written ({error.strerror}). Copy the bundle where you may write."
        ) from error
