"""Slopes of memory: right for what is known, and modest about what is not."""

from __future__ import annotations

import math
from random import Random

import pytest

from ops.soak.trend import Sample, Slope, slope_of, student_t

HOUR_S = 3600.0


def line(
    mib_per_h: float, start_mib: float = 100.0, start_s: float = 0.0, samples: int = 120, every_s: float = 5.0
) -> list[Sample]:
    times = [start_s + number * every_s for number in range(samples)]
    return [Sample(at_s, start_mib + (at_s - start_s) * mib_per_h / HOUR_S) for at_s in times]


def noisy(samples: list[Sample], seed: int, noise_mib: float = 1.0, memory: float = 0.0) -> list[Sample]:
    """Add noise of which a share (`memory`) stays from one sample to the next."""
    rng, carried, made = Random(seed), 0.0, []
    for sample in samples:
        carried = memory * carried + rng.gauss(0.0, noise_mib)
        made.append(Sample(sample.at_s, sample.mib + carried))
    return made


def found(slope: Slope | None) -> tuple[float, float, float]:
    assert slope is not None
    assert slope.low is not None
    assert slope.high is not None
    return slope.mib_per_h, slope.low, slope.high


def test_a_straight_line_has_its_own_slope_and_no_doubt() -> None:
    assert found(slope_of([line(12.0)])) == pytest.approx((12.0, 12.0, 12.0))


def test_memory_that_stays_has_no_slope() -> None:
    assert found(slope_of([line(0.0)])) == (0.0, 0.0, 0.0)


def test_a_restarted_process_is_not_taken_for_growth_or_shrinking() -> None:
    """Three lives at different levels, none of which grows."""
    lives = [line(0.0, mib, start_s) for mib, start_s in ((100.0, 0.0), (150.0, 700.0), (120.0, 1400.0))]
    assert found(slope_of(lives)) == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)


def test_short_lives_together_show_what_none_shows_alone() -> None:
    lives = [
        noisy(line(60.0, 100.0 + life, 200.0 * life, samples=20), seed=life, noise_mib=0.5)
        for life in range(30)
    ]
    _, low, high = found(slope_of(lives))
    assert 0.0 < low < 60.0 < high
    _, low_alone, _ = found(slope_of(lives[:1]))
    assert low_alone < low


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.8])
def test_the_interval_holds_the_true_slope_about_as_often_as_it_promises(memory: float) -> None:
    """Also when each sample is like the one before, as memory is."""
    held = 0
    for seed in range(400):
        _, low, high = found(slope_of([noisy(line(10.0, samples=240), seed, memory=memory)]))
        held += low <= 10.0 <= high
    assert 0.91 <= held / 400 <= 0.99


def test_one_step_is_not_called_a_growth() -> None:
    """An allocator that takes 8 MiB once: a line through it would rise, and it will never rise again."""
    samples = [Sample(sample.at_s, 100.0 + 8.0 * (number >= 60)) for number, sample in enumerate(line(0.0))]
    slope = slope_of([samples])
    assert slope is not None
    assert slope.mib_per_h > 24.0
    assert slope.low is None or slope.low < 24.0


def test_a_leak_is_called_a_growth() -> None:
    """Half a MiB a minute, in steps of a page as it happens, beside an allocator's noise."""
    _, low, _ = found(slope_of([noisy(line(30.0, samples=360), seed=4, noise_mib=0.5, memory=0.5)]))
    assert low > 24.0


@pytest.mark.parametrize("series", [[], [[]], [[Sample(0.0, 1.0)]], [[Sample(0.0, 1.0), Sample(0.0, 2.0)]]])
def test_without_two_times_of_one_process_there_is_no_slope(series: list[list[Sample]]) -> None:
    assert slope_of(series) is None


def test_with_hardly_any_samples_there_is_a_slope_and_no_interval() -> None:
    assert slope_of([[Sample(0.0, 1.0), Sample(1.0, 2.0), Sample(2.0, 2.0)]]) == Slope(
        pytest.approx(0.5 * HOUR_S), None, None
    )


@pytest.mark.parametrize(
    ("freedom", "t"), [(2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042), (1e6, 1.960)]
)
def test_students_t_is_that_of_the_tables(freedom: float, t: float) -> None:
    assert math.isclose(student_t(freedom), t, rel_tol=0.01)
