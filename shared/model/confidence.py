"""What an exit's confidence is; the numbers are computed where tokens are drawn (`sampling.py`)."""

from __future__ import annotations

from typing import Final, Literal

# The largest probability, its lead over the second, or one minus the entropy's share of its maximum.
Measure = Literal["max_probability", "margin", "entropy"]
MAX_PROBABILITY: Final[Measure] = "max_probability"
