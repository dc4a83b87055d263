"""Imports without garbage collections, which are never looked at again."""

from __future__ import annotations

import gc

import pytest

from ops.garbage import kept_for_good


@pytest.fixture(autouse=True)
def thawed():
    """Leave nothing frozen for other tests."""
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_inside_and_it_goes_on_afterwards():
    with kept_for_good():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_was_there_is_never_looked_at_again():
    with kept_for_good():
        kept = [[number] for number in range(1000)]
    assert gc.get_freeze_count() >= len(kept)
    assert not any(each is kept[0] for each in gc.get_objects())


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    with kept_for_good():
        pass
    assert not gc.isenabled()


def test_a_failed_import_leaves_the_collector_on():
    with pytest.raises(ImportError), kept_for_good():
        raise ImportError
    assert gc.isenabled()
