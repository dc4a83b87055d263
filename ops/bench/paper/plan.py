"""How large a run is, and what the paper's numbers are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ops.bench.link_proxy import Link
from ops.bench.paper.model import BIG, TINY, Shape, cache_folder
from ops.bench.paper.script import Pattern

# Source: CE-CoLLM (arXiv 2411.02829): its cloud request rates at thresholds 0.8 and 0.9, and its link.
PAPER_RATES: Final = {0.8: 0.277, 0.9: 0.496}
PAPER_LINK: Final = Link(3.0, 30.0)
# Of the sure tokens; taken as half, where the paper's tables leave it open.
FIRST_EXIT_SHARE: Final = 0.5
MAIN_THRESHOLD: Final = 0.8


@dataclass(frozen=True)
class PaperPlan:
    """Sizes of a run.

    Attributes:
        shape: of the scripted model. weights: as in `edge.weights`, on both sides.
        cache: where it is kept.
        short_tokens, long_tokens: of the prompts; 0 leaves the long ones out.
        new_tokens: of each answer.
        prompts: of each length.
        other_rtts_ms: further links, for CE-CoLLM's row and ours. pairs: of their answers on each.
        home_requests: answered by the home model; 0 leaves it out.
        confirm_requests: over which the share of confirmed guesses is measured.
        confirmed: that share, where it is given instead.
        naive_stride: of the naive split's steps one in so many is taken.
        tune_tokens: of the answers by which the rivals' best forms are chosen, for every table and link
            anew; 0: the first ones stay.
        embedded: take our own broker even where Mosquitto is installed.
        seed: of prompts and scripts.
    """

    shape: Shape = BIG
    weights: str = "bfloat16"
    cache: Path = Path()
    short_tokens: int = 20
    long_tokens: int = 380
    new_tokens: int = 100
    prompts: int = 1
    other_rtts_ms: tuple[float, ...] = (20.0, 50.0, 100.0)
    pairs: int = 3
    home_requests: int = 8
    confirm_requests: int = 1_000
    confirmed: float | None = None
    naive_stride: int = 25
    tune_tokens: int = 16
    embedded: bool = False
    seed: int = 0

    def settings(self) -> dict[str, Any]:
        """For the report."""
        return {
            "model": self.shape.name,
            "parameters": self.shape.parameters,
            "weights": self.weights,
            "exits": self.shape.exits,
            "prompt_tokens": [self.short_tokens, self.long_tokens],
            "new_tokens": self.new_tokens,
            "prompts": self.prompts,
            "other_rtts_ms": self.other_rtts_ms,
            "pairs": self.pairs,
            "home_requests": self.home_requests,
            "naive_stride": self.naive_stride,
            "tune_tokens": self.tune_tokens,
            "seed": self.seed,
        }

    def scripted_title(self, threshold: float, shares: Pattern, prompt_tokens: int) -> str:
        """Of a table on the scripted model: that it is scripted stands in it, and in which shares."""
        return (
            f"{self.shape.name}, SCRIPTED: {shares.request_rate:.1%} requests (θ {threshold:g}), "
            f"{shares.confirmed:.1%} of unsure guesses confirmed; {prompt_tokens} + {self.new_tokens} tokens"
        )


def full_plan(**wishes: Any) -> PaperPlan:
    """The default sizes: minutes on two cores."""
    return replace(PaperPlan(cache=cache_folder()), **wishes)


def quick_plan(**wishes: Any) -> PaperPlan:
    """A smoke's sizes: seconds; its ratios mean nothing."""
    small = PaperPlan(
        shape=TINY,
        cache=cache_folder(),
        short_tokens=8,
        long_tokens=40,
        new_tokens=16,
        other_rtts_ms=(20.0,),
        pairs=2,
        home_requests=2,
        confirm_requests=60,
        naive_stride=8,
        tune_tokens=8,
    )
    return replace(small, **wishes)


def pattern(threshold: float, confirmed: float) -> Pattern:
    """The paper's exits at one of its thresholds."""
    return Pattern(PAPER_RATES[threshold], FIRST_EXIT_SHARE, confirmed)
