"""What a tuning run changed."""

from __future__ import annotations

import msgspec
from rich.table import Table

from ops.tuning.plan import Plan
from ops.tuning.scores import ExitScore, Scores
from shared.model.manifest import HeadForm, HeadMatrix


class ExitReport(msgspec.Struct, frozen=True):
    """One exit before and after."""

    layer: int
    head: HeadForm
    lm_head: HeadMatrix
    rank: int | None
    before: ExitScore
    after: ExitScore


class Report(msgspec.Struct, frozen=True):
    """A finished run.

    Attributes:
        bundle: the model's name.
        plan: the run's.
        steps: batches learned.
        tokens: read.
        epochs: rounds over the text that were begun.
        elapsed_s: time spent learning.
        held_out_tokens: that the scores are about.
        full_nll: of the full model on them, in nats per token.
        exits: ascending.
    """

    bundle: str
    plan: Plan
    steps: int
    tokens: int
    epochs: int
    elapsed_s: float
    held_out_tokens: int
    full_nll: float
    exits: tuple[ExitReport, ...]


def exit_reports(plan: Plan, before: Scores, after: Scores) -> tuple[ExitReport, ...]:
    """The tuned exits' scores side by side."""
    return tuple(
        ExitReport(layer, plan.head, plan.lm_head, plan.rank, before.exits[layer], after.exits[layer])
        for layer in plan.layers
    )


def table(report: Report) -> Table:
    """The report for people; arrows lead from before to after."""
    about = f"{report.held_out_tokens} held-out tokens, full model NLL {report.full_nll:.3f}"
    shown = Table(title=f"{report.bundle}: {about}", title_justify="left")
    for column in ("exit", "head", "agreement", "NLL", "calibration error"):
        shown.add_column(column, justify="left" if column == "head" else "right")
    for each in report.exits:
        old, new = each.before, each.after
        shown.add_row(
            str(each.layer),
            _form(each),
            f"{old.agreement:.1%} → {new.agreement:.1%}",
            f"{old.nll:.3f} → {new.nll:.3f}",
            f"{old.calibration_error:.3f} → {new.calibration_error:.3f}",
        )
    return shown


def _form(each: ExitReport) -> str:
    rank = "" if each.rank is None else f" {each.rank}"
    return f"{each.head}{rank}{', own LM head' if each.lm_head == 'own' else ''}"
