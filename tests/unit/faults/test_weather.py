"""What a link decides about packets, without sockets and clocks."""

from __future__ import annotations

from random import Random

import pytest

from ops.faults.weather import LATE_S, Forecast, Weather
from shared.errors import ConfigError


def fates(
    weather: Weather, packets: int = 1000, seed: int = 1, size_bytes: int = 100, *, mortal: bool = True
) -> list[list[float]]:
    """When each packet arrives; one is sent each millisecond."""
    forecast = Forecast(Random(seed))
    return [forecast.arrivals(weather, size_bytes, number / 1000, mortal=mortal) for number in range(packets)]


def test_in_good_weather_everything_arrives_once_and_at_once() -> None:
    assert fates(Weather()) == [[number / 1000] for number in range(1000)]


def test_the_lost_share_is_about_what_was_asked_for() -> None:
    lost = sum(not each for each in fates(Weather(loss=0.05), 10_000))
    assert 400 < lost < 600


def test_every_packet_that_is_not_lost_has_all_its_copies() -> None:
    assert {len(each) for each in fates(Weather(loss=0.1, copies=10))} == {0, 10}


def test_jitter_stays_in_its_range_and_order_is_kept() -> None:
    arrivals = [each[0] for each in fates(Weather(delay_s=0.01, jitter_s=0.0075))]
    assert arrivals == sorted(arrivals)
    delays = [arrival - number / 1000 for number, arrival in enumerate(arrivals)]
    assert min(delays) >= 0.0025
    assert max(delays) <= 0.0175
    assert max(delays) - min(delays) > 0.005


def test_jitter_beyond_the_delay_brings_nothing_before_it_was_sent() -> None:
    arrivals = [each[0] for each in fates(Weather(jitter_s=0.1))]
    assert all(arrival >= number / 1000 for number, arrival in enumerate(arrivals))


def test_reordered_packets_are_overtaken_and_the_others_are_not_held_up() -> None:
    arrivals = [each[0] for each in fates(Weather(reorder=0.2))]
    late = [number for number, arrival in enumerate(arrivals) if arrival > number / 1000]
    assert 120 < len(late) < 280
    assert all(arrivals[number] <= number / 1000 + LATE_S for number in late)
    assert arrivals != sorted(arrivals)


def test_what_tcp_promises_holds_in_any_weather() -> None:
    """All but QoS 0 arrives once and in order."""
    storm = Weather(delay_s=0.02, jitter_s=0.02, loss=0.9, copies=5, reorder=0.9)
    arrivals = fates(storm, mortal=False)
    assert {len(each) for each in arrivals} == {1}
    assert arrivals == sorted(arrivals)


def test_a_narrow_line_delivers_no_more_than_it_carries() -> None:
    arrivals = fates(Weather(rate_bytes_s=10_000.0), packets=100, size_bytes=1000)
    assert arrivals[-1][0] == pytest.approx(10.0)


def test_copies_take_their_own_time_on_a_narrow_line() -> None:
    (arrivals,) = fates(Weather(rate_bytes_s=1000.0, copies=3), packets=1, size_bytes=100)
    assert arrivals == pytest.approx([0.1, 0.2, 0.3])


def test_the_same_dice_decide_the_same() -> None:
    storm = Weather(delay_s=0.01, jitter_s=0.01, loss=0.2, copies=2, reorder=0.3)
    assert fates(storm, seed=7) == fates(storm, seed=7)
    assert fates(storm, seed=7) != fates(storm, seed=8)


@pytest.mark.parametrize(
    "impossible",
    [
        {"delay_s": -0.1},
        {"jitter_s": -0.1},
        {"loss": 1.1},
        {"reorder": -0.1},
        {"copies": 0},
        {"rate_bytes_s": 0.0},
    ],
    ids=str,
)
def test_impossible_weather_is_refused(impossible: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(impossible))):
        Weather(**impossible)  # type: ignore[arg-type]
