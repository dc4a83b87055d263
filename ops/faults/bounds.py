"""How long anybody may wait and how much memory a process may take, whatever fails.

They are bounds, not figures: wide enough for a machine that others use too, and far below what an edge
without a deadline, or a process that keeps what it should drop, would come to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

# Eight first tokens wait for each other's prompts: a second, or ten of them on a busy machine.
ROOM_S: Final = 20.0
# What a process has after its first answer is mostly torch; eight sessions and long prompts took 70 MiB more.
ROOM_MIB: Final = 128.0


def overruns(
    longest_wait_s: float,
    limit_s: float,
    peak_mib: Mapping[str, float],
    calm_mib: Mapping[str, float],
) -> list[str]:
    """What is beyond its bounds (I3, I5, I6), one text for each.

    Args:
        longest_wait_s: of any asker.
        limit_s: what it may be.
        peak_mib: the most memory of each member; 0 where it does not run.
        calm_mib: the same after the installation's first answer, before any fault.
    """
    return [*_late(longest_wait_s, limit_s), *_grown(peak_mib, calm_mib)]


def limit_s(deadline_s: float, holds_s: float) -> float:
    """The longest that nothing may be heard of an answer.

    Args:
        deadline_s: after which the edge says its own token.
        holds_s: how long the fault keeps the edge itself from speaking.
    """
    return deadline_s + holds_s + ROOM_S


def _late(longest_wait_s: float, limit_s: float) -> Iterator[str]:
    if longest_wait_s > limit_s:
        yield f"nothing was heard for {longest_wait_s:.1f} s; {limit_s:g} s are the most"


def _grown(peak_mib: Mapping[str, float], calm_mib: Mapping[str, float]) -> Iterator[str]:
    for name, peak in peak_mib.items():
        most = calm_mib[name] + ROOM_MIB
        if peak > most:
            yield f"{name} took {peak:.0f} MiB; {most:.0f} MiB are the most"
