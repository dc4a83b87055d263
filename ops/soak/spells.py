"""When which fault was at work, and what an answer of that time may look like."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ops.faults.run import Fault

# An answer takes a minute at most, a fault rarely less than a second.
_KEPT: Final = 64


@dataclass(slots=True)
class Spell:
    """The time from a fault's beginning until everything works again."""

    fault: Fault
    start_s: float
    end_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Allowance:
    """What faults excuse; see `Fault`."""

    may_degrade: bool
    deaf: bool
    begins_anew: bool


class Spells:
    """The latest faults."""

    def __init__(self) -> None:
        self._spells: deque[Spell] = deque(maxlen=_KEPT)

    def begin(self, fault: Fault, now_s: float) -> Spell:
        """A fault is about to strike."""
        self._spells.append(Spell(fault, now_s))
        return self._spells[-1]

    def allowance(self, start_s: float, end_s: float) -> Allowance:
        """Of an answer that was made in this time: what any fault of this time excuses."""
        return _sum(each.fault for each in self._spells if each.start_s <= end_s and each.end_s >= start_s)


def _sum(faults: Iterable[Fault]) -> Allowance:
    met = list(faults)
    return Allowance(
        may_degrade=any(fault.may_degrade for fault in met),
        deaf=any(fault.deaf for fault in met),
        begins_anew=any(fault.begins_anew for fault in met),
    )
