"""The codec bench's tables and its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ops.bench.codec.agreement import AgreementResult
from ops.bench.codec.speed import MANY_ROWS, SpeedResult
from ops.bench.report import BenchReport, BenchTable

WIDTH: Final = 2048  # that byte shares are promised at
SHORT: Final = ("int8", "int4")
_LOSSLESS: Final = "fp32"
_DIGITS: Final = 6

_NOTES: Final = (
    (
        "Error: of the ordinary dimensions of made-up rows in which three are massive, by their norm; in the "
        "second table of a bundle's rows. Bytes: whole rows with scales and outliers, without message heads."
    ),
    (
        "+zstd: a step's payload, packed and unpacked; one that compression does not shorten travels plain. "
        "Made-up rows shrink more than a text's states do; ADR 20 has those."
    ),
    (
        "Unchanged: share of the cloud's greedy tokens that are the same as from exact states, every row of "
        "the text having gone through the codec. The summary has the worst of all bundles and texts."
    ),
)


def report_of(
    speeds: Sequence[SpeedResult], agreements: Sequence[AgreementResult], settings: Mapping[str, Any]
) -> BenchReport:
    """The whole run."""
    columns, rows = _speed_table(speeds)
    return BenchReport(
        "codec",
        settings,
        columns,
        rows,
        summary_of(speeds, agreements),
        _NOTES,
        [_agreement_table(agreements)],
    )


def summary_of(speeds: Sequence[SpeedResult], agreements: Sequence[AgreementResult]) -> dict[str, float]:
    """Byte shares at `WIDTH` and the worst agreements, by the names that stay."""
    shares = {each.codec: each.fp16_share for each in speeds if each.width == WIDTH}
    found = {f"{name}_bytes_over_fp16": round(shares[name], _DIGITS) for name in SHORT if name in shares}
    for name in SHORT:
        worst = [
            codec.score.agreement for each in agreements for codec in each.codecs if codec.score.name == name
        ]
        if worst:
            found[f"{name}_agreement"] = min(worst)
    return found


def broken_promises(agreements: Sequence[AgreementResult]) -> list[str]:
    """Where exact states, sent as they are, gave another text: that is a fault, not a measurement."""
    return [
        f"{each.bundle}, {each.text}: tokens from {_LOSSLESS} states differ from those of exact ones"
        for each in agreements
        for codec in each.codecs
        if codec.score.name == _LOSSLESS and codec.score.agreement < 1.0
    ]


def _speed_table(speeds: Sequence[SpeedResult]) -> tuple[list[str], list[dict[str, Any]]]:
    columns = [
        "codec",
        "width",
        "bytes/row",
        "of fp16",
        f"bytes/row of {MANY_ROWS}",
        f"of fp16, {MANY_ROWS}",
        "encode 1, µs",
        "decode 1, µs",
        f"encode {MANY_ROWS}, µs",
        f"decode {MANY_ROWS}, µs",
        "error",
    ]
    rows = [
        (
            each.codec,
            each.width,
            each.row_bytes,
            f"{each.fp16_share:.3f}",
            round(each.many_bytes),
            f"{each.many_share:.3f}",
            each.encode_us,
            each.decode_us,
            each.encode_many_us,
            each.decode_many_us,
            each.relative_error,
        )
        for each in speeds
    ]
    return columns, [dict(zip(columns, row, strict=True)) for row in rows]


def _agreement_table(agreements: Sequence[AgreementResult]) -> BenchTable:
    columns = ["bundle", "width", "along", "codec", "bytes/row", "error", "unchanged", "of tokens"]
    rows = [
        (
            each.bundle,
            each.width,
            each.text,
            codec.score.name,
            codec.score.bytes_per_token,
            codec.relative_error,
            f"{codec.score.agreement:.2%}",
            codec.tokens,
        )
        for each in agreements
        for codec in each.codecs
    ]
    return BenchTable(
        "cloud's tokens through each codec", columns, [dict(zip(columns, row, strict=True)) for row in rows]
    )
