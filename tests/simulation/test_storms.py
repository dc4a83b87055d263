"""Whole sessions in simulated storms: what has to hold holds, whatever fails.

`ANTIPHON_STORMS=20000` looks further than the usual seeds; `ANTIPHON_STORM=wild/83` runs one again and prints
its story.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.simulation.mutants import MUTANTS, STORM_MUTANTS, Mutant
from tests.simulation.storm import Storm
from tests.simulation.weather import draw_weather

KINDS = {"bounded": True, "wild": False}
STORMS = int(os.environ.get("ANTIPHON_STORMS", "300"))
ONE = os.environ.get("ANTIPHON_STORM", "")
# Of a story, what still fits a terminal.
TOLD_LINES = 400

# What a few hundred storms have to reach, or they prove little.
REACHED = (
    *("Opened", "Tokens", "Resume", "Busy", "Refused", "Close", "answered", "degraded"),
    *("lost", "doubled", "frozen", "killed", "disconnected", "line_full"),
    *("rewound", "asked ahead", "rows pushed", "discarded", "partly squeezed"),
    *("store_claim", "store_append", "context_unlogged", "session_refused", "broker_silent"),
)


def pass_storm(kind: str, seed: int) -> Storm:
    """Run the storm of a seed; one that goes wrong tells its story."""
    storm = Storm(draw_weather(seed, bounded=KINDS[kind]))
    storm.run()
    if storm.wrong:
        story = "\n".join(storm.trace.lines()[-TOLD_LINES:])
        wrong = "\n  ".join(storm.wrong)
        again = f"storm {seed}; to see it again: ANTIPHON_STORM={kind}/{seed}"
        pytest.fail(f"{story}\n{storm.weather}\n{again}\n  {wrong}")
    return storm


@pytest.mark.timeout(0 if STORMS > 1_000 else 300)
@pytest.mark.skipif(bool(ONE), reason="one storm was asked for")
def test_texts_memory_and_deadlines_hold_in_every_storm():
    """Invariants 1 to 7; in bounded storms patient edges get every token from the cloud."""
    reached: Counter[str] = Counter()
    for seed in range(STORMS // 2):
        for kind in KINDS:
            reached += pass_storm(kind, seed).trace.counts
    missing = [each for each in REACHED if not reached[each]]
    assert STORMS < 300 or not missing, f"no storm met {missing}: {reached}"


@pytest.mark.skipif(not ONE, reason="set ANTIPHON_STORM to see one storm")
def test_one_storm_tells_its_story(capsys: pytest.CaptureFixture[str]):
    kind, _, seed = ONE.partition("/")
    storm = pass_storm(kind, int(seed))
    with capsys.disabled():
        print("\n".join(storm.trace.lines()), storm.weather, sep="\n")


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_always_gives_the_same_storm(kind: str):
    assert pass_storm(kind, 7).trace.digest() == pass_storm(kind, 7).trace.digest()


@pytest.mark.parametrize("mutant", [*STORM_MUTANTS, MUTANTS[-2]], ids=str)
def test_a_storm_finds_a_planted_bug(mutant: Mutant):
    """Storms in which nothing goes wrong prove little unless they would have shown it."""
    with mutant.planted():
        assert any(goes_wrong(kind, seed) for seed in range(60) for kind in KINDS)


def goes_wrong(kind: str, seed: int) -> bool:
    storm = Storm(draw_weather(seed, bounded=KINDS[kind]))
    storm.run()
    return bool(storm.wrong)
