"""Adds up what the demo's answers cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from edge_agent.rungs import FORCED_RUNG
from ops.render import rung_style


@dataclass(slots=True)
class Tally:
    """Sums over answers.

    Attributes:
        right: answers whose action was the expected one. asked: answers with an expectation.
    """

    rungs: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    uploaded_tokens: int = 0
    uplink_bytes: int = 0
    edge_compute_ms: float = 0.0
    cloud_compute_ms: float = 0.0
    right: int = 0
    asked: int = 0

    def add(self, answer: Mapping[str, Any], *, right: bool) -> None:
        """Count an answer."""
        self.rungs.update(answer["rungs"])
        cloud, timings = answer["cloud"], answer["timings"]
        self.requests += cloud["requests"]
        self.uploaded_tokens += cloud["uploaded_tokens"]
        self.uplink_bytes += cloud["uplink_bytes"]
        self.edge_compute_ms += timings["edge_compute_ms"]
        self.cloud_compute_ms += timings["cloud_compute_ms"]
        self.asked += 1
        self.right += right

    def table(self) -> Table:
        """For people."""
        # Tokens that the grammar forced are nobody's, and count in no share.
        tokens = max(1, self.rungs.total() - self.rungs[FORCED_RUNG])
        table = Table(title="what it took", show_header=False, title_justify="left")
        for rung, count in sorted(self.rungs.items()):
            part = "the grammar left no choice" if rung == FORCED_RUNG else f"{count / tokens:.0%}"
            table.add_row(f"tokens by {rung}", f"{count} ({part})", style=rung_style(rung))
        table.add_row("cloud requests", f"{self.requests} ({self.requests / tokens:.0%} of decided tokens)")
        per_token = self.uplink_bytes / self.uploaded_tokens if self.uploaded_tokens else 0.0
        table.add_row(
            "uplink bytes per uploaded token", f"{per_token:.0f} ({self.uploaded_tokens} tokens uploaded)"
        )
        share = self.cloud_compute_ms / self.edge_compute_ms if self.edge_compute_ms else 0.0
        table.add_row(
            "cloud compute against the edge's",
            f"{self.cloud_compute_ms:.0f} ms / {self.edge_compute_ms:.0f} ms = {share:.0%}",
        )
        table.add_row("answers right / asked", f"{self.right} / {self.asked}", style="bold")
        return table
