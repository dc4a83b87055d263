"""The cost of a head against a layer's, on random matrices, by each way to its token."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor, nn

from ops.bench.heads.layer import BareLayer
from shared.model.chooser import Chooser
from shared.model.head_screen import HeadScreen
from shared.model.heads import ExitHead, ExitParts
from shared.model.sampling import GREEDY, Draw, draw

THRESHOLD: Final = 0.9
FEW_TOKENS: Final = 40
# How far states lean to a token, in units of their own length: from no idea to certainty.
_PULLS: Final = (0.1, 0.2, 0.3, 0.5, 1.0)
_LOGIT_NATS: Final = 2.0
# Between two measurements something else uses the caches, as stages do.
_WARM_UPS: Final = 3


@dataclass(frozen=True)
class HeadShape:
    """A head that is measured.

    Attributes:
        vocab, hidden: of its LM head.
        dtype: of its weights.
        rows: states that are drawn from.
    """

    vocab: int
    hidden: int
    dtype: torch.dtype
    rows: int

    @property
    def name(self) -> str:
        """For a table."""
        return f"{self.vocab} × {self.hidden} {str(self.dtype).removeprefix('torch.')}"


@dataclass(slots=True)
class HeadCost:
    """What was measured of one head: seconds by row for each way, and what the ways said.

    Attributes:
        seconds: by the name of what ran.
        screen_misses: draws that a screen left to the whole head.
        sure: draws above the threshold.
        changed: draws with another token, or on the other side of the threshold, than from all logits.
        eight_bits_changed: tokens that eight bits alone, unproven, would have changed.
    """

    shape: HeadShape
    seconds: dict[str, list[float]] = field(default_factory=dict)
    screen_misses: int = 0
    sure: int = 0
    changed: int = 0
    eight_bits_changed: int = 0

    def timed(self, name: str, run: Callable[[], Draw | None]) -> Draw | None:
        """Run and note the time."""
        started_s = time.perf_counter()
        drawn = run()
        self.seconds.setdefault(name, []).append(time.perf_counter() - started_s)
        return drawn


@torch.inference_mode()
def measure_head(shape: HeadShape, seed: int) -> HeadCost:
    """Measure one head, and a layer of its width, row by row in turns."""
    torch.manual_seed(seed)
    head, cost = _random_head(shape), HeadCost(shape)
    screen = HeadScreen(head.matrix)
    chooser, layer = Chooser(head, screen=screen), BareLayer(shape.hidden, shape.dtype)
    for number, row in enumerate(_rows(head, shape.rows + _WARM_UPS)):
        measured = cost if number >= _WARM_UPS else HeadCost(shape)
        measured.timed("layer", lambda row=row: layer.run(row))  # type: ignore[misc]
        _draw_all(measured, head, chooser, screen, row)
    return cost


def _draw_all(cost: HeadCost, head: ExitHead, chooser: Chooser, screen: HeadScreen, row: Tensor) -> None:
    """One row by every way; where tokens are few, among some that hold the best."""
    whole = cost.timed("whole", lambda: draw(head.logits(row)[0], GREEDY, 0))
    chooser.ways.clear()
    found = cost.timed("screen", lambda: chooser.draw(row, GREEDY, 0, threshold=THRESHOLD))
    cost.screen_misses += chooser.ways["whole"]
    assert whole is not None
    assert found is not None
    step = max(1, len(head.matrix) // FEW_TOKENS)
    few = sorted({whole.token, *range(0, len(head.matrix), step)})[:FEW_TOKENS]
    masked = cost.timed("whole, masked", lambda: draw(head.logits(row)[0], GREEDY, 0, allowed=few))
    among = cost.timed("few", lambda: chooser.draw(row, GREEDY, 0, allowed=few, threshold=THRESHOLD))
    assert masked is not None
    assert among is not None
    normed = head.parts.normed(row)
    started_s = time.perf_counter()
    guess = int(screen.bounds(head, normed).logits[0].argmax())
    cost.seconds.setdefault("eight bits", []).append(time.perf_counter() - started_s)
    cost.eight_bits_changed += guess != whole.token
    cost.sure += whole.confidence > THRESHOLD
    cost.changed += differs(found, whole, THRESHOLD) + differs(among, masked, THRESHOLD)


def differs(drawn: Draw, whole: Draw, threshold: float) -> bool:
    """Whether a draw is another token, or another decision."""
    return drawn.token != whole.token or (drawn.confidence > threshold) != (whole.confidence > threshold)


def _random_head(shape: HeadShape) -> ExitHead:
    """Rows of different lengths, as those of frequent and rare tokens are."""
    matrix = torch.randn(shape.vocab, shape.hidden).mul_(_LOGIT_NATS / shape.hidden**0.5)
    matrix *= torch.empty(shape.vocab, 1).uniform_(0.5, 1.5)
    parts = ExitParts(nn.RMSNorm(shape.hidden, eps=1e-5, dtype=shape.dtype), None)
    return ExitHead(parts.eval().requires_grad_(requires_grad=False), matrix.to(shape.dtype))


def _rows(head: ExitHead, count: int) -> Iterator[Tensor]:
    """States, (1, hidden) each, that lean to random tokens."""
    vocab, hidden = head.matrix.shape
    for number in range(count):
        noise = torch.randn(1, hidden)
        direction = head.matrix[int(torch.randint(vocab, ()))].float()
        lean = _PULLS[number % len(_PULLS)] * noise.norm() / direction.norm()
        yield (noise + lean * direction).to(head.matrix.dtype)
