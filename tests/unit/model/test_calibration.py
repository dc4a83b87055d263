"""Choosing a level by the quality that is asked for."""

from __future__ import annotations

import msgspec
import pytest

from shared.errors import PromptError
from shared.model.calibration import Calibration, Level, level_for


def level(agreement: float) -> Level:
    return Level(agreement, (agreement, agreement), agreement, {}, 0.1, 10.0, 5.0)


CALIBRATION = Calibration(
    "ab", "max_probability", (1.0, 1.0), 0.95, "fp16", 500, 4000, (level(0.95), level(0.98), level(0.99))
)


@pytest.mark.parametrize(("quality", "agreement"), [(0.5, 0.95), (0.95, 0.95), (0.96, 0.98), (0.99, 0.99)])
def test_the_cheapest_level_that_promises_enough_is_taken(quality: float, agreement: float):
    assert level_for(CALIBRATION, quality).agreement == agreement


def test_a_quality_beyond_all_levels_is_refused_with_those_there_are():
    with pytest.raises(PromptError, match=r"no level of quality 0\.995.*0\.95, 0\.98, 0\.99"):
        level_for(CALIBRATION, 0.995)


def test_a_calibration_from_before_codecs_were_measured_still_loads():
    older = msgspec.to_builtins(CALIBRATION)
    del older["codecs"]
    assert msgspec.convert(older, Calibration) == CALIBRATION


def test_without_a_calibration_the_refusal_says_how_to_make_one():
    with pytest.raises(PromptError, match="antiphon model calibrate"):
        level_for(None, 0.9)
