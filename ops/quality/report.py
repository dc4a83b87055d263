"""The quality report: what each way to answer is worth, and what it costs."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ops.quality.range import Range

AT99: Final = 0.99


class Row(msgspec.Struct, frozen=True):
    """One way to answer, on the held-out requests or the given texts unless it says otherwise.

    Shares, agreement and rates are of decided tokens; forced ones have a column of their own.

    Attributes:
        setting: its name.
        thresholds: one for each exit.
        quality: the promised agreement of a calibrated level.
        exact: share of answers that do what was asked; None for texts.
        natural_exact: the same on the requests that people wrote.
        rouge_l: mean ROUGE-L F1 against the full model's text; None for homes.
        agreement: mean share of an answer's tokens that the full model would have chosen there.
        exit_shares: rung → share of tokens.
        request_rate: cloud requests per token.
        forced_share: forced tokens, of all tokens.
        cloud_time_share: cloud compute time, of a cloud's that answers alone.
        cloud_flop_share: floating point operations in the cloud, likewise.
        uplink_bytes_per_token: encoded states sent, without message headers; None where text is sent.
        invalid_actions: answers that are no action or name what the home does not have, on all requests.
        wrong_actions_on_refusals: answers that act where a refusal is right, on all requests; None for texts.
    """

    setting: str
    thresholds: tuple[float, ...]
    quality: float | None
    exact: float | None
    natural_exact: float | None
    rouge_l: float | None
    agreement: float
    exit_shares: dict[str, float]
    request_rate: float
    forced_share: float
    cloud_time_share: Range
    cloud_flop_share: float
    uplink_bytes_per_token: float | None
    invalid_actions: int
    wrong_actions_on_refusals: int | None = None


class Report(msgspec.Struct, frozen=True):
    """A whole run.

    Attributes:
        bundle: name of the model. digest: of its weights.
        machine, commit: where and by which code.
        settings: the run's options.
        requests: held-out requests, or texts. natural_requests: those that people wrote.
        refusals: how many of both are to be refused.
        rows: the full model first, then each exit alone, thresholds, calibrated levels.
        summary: the figures that are looked at over time, flat.
    """

    bundle: str
    digest: str
    machine: dict[str, Any]
    commit: str
    settings: dict[str, Any]
    requests: int
    natural_requests: int
    refusals: int
    rows: list[Row]
    summary: dict[str, float]


def summary(rows: list[Row], exits: int) -> dict[str, float]:
    """The flat figures; those that can't be had (no calibrated level, no home) are left out."""
    full, edge = rows[0], rows[exits]
    found: dict[str, float | None] = {
        "full_exact": full.exact,
        "edge_exact": edge.exact,
        "natural_exact": full.natural_exact,
        "edge_agreement": edge.agreement,
        "wrong_actions_on_refusals": full.wrong_actions_on_refusals,
    }
    if full.exact is not None:
        found["invalid_actions"] = sum(row.invalid_actions for row in rows)
    calibrated = next((row for row in rows if row.quality is not None and row.quality >= AT99), None)
    if calibrated is not None:
        found |= _at99(calibrated, full)
    return {name: round(value, 6) for name, value in found.items() if value is not None}


def _at99(row: Row, full: Row) -> dict[str, float | None]:
    return {
        "at99_agreement": row.agreement,
        "at99_edge_token_share": 1.0 - row.exit_shares["cloud"],
        "at99_request_rate": row.request_rate,
        "at99_cloud_time_share": row.cloud_time_share.median,
        "at99_cloud_flop_share": row.cloud_flop_share,
        "at99_uplink_bytes_per_token": row.uplink_bytes_per_token,
        "at99_exact": row.exact,
        "at99_rouge_l": row.rouge_l,
        "at99_exact_drop_points": (
            None if row.exact is None or full.exact is None else (full.exact - row.exact) * 100.0
        ),
    }
