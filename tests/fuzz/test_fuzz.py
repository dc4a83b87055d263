"""Every decoder, given damaged input: it takes it or refuses it in our own words, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import AntiphonError
from tests.fuzz.engines import feed
from tests.fuzz.judge import InputError, Judge
from tests.fuzz.mutate import mutations
from tests.fuzz.seeds import seed_files
from tests.fuzz.target import CORPUS, Target, every_target

TARGETS = list(every_target())
RUNS = {"device.home": 200, "files.config": 400, "files.environment": 400, "mqtt.connection": 400}
each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A broker logs each hostile client: pages of it, in a report of some other failure."""
    with structlog.testing.capture_logs():
        yield


@each_target
def test_damaged_inputs_are_taken_or_refused(target: Target, tmp_path: Path) -> None:
    judge = Judge(target, "mutation", tmp_path)
    feed(judge, target, RUNS.get(target.name, 1_500), seed=1)
    assert judge.tally.crashes == 0
    assert judge.tally.decoded > 0, "nothing decoded: its corpus does not fit it any more"
    assert judge.tally.refused > 0, "nothing was refused: its inputs are not damaged enough"


@each_target
@settings(max_examples=50)
@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_are_taken_or_refused(target: Target, data: bytes) -> None:
    with contextlib.suppress(AntiphonError):
        target.check(data)


@each_target
def test_the_corpus_is_what_the_seeds_say(target: Target) -> None:
    """`python -m tests.fuzz seed` writes it anew."""
    assert {path.name: path.read_bytes() for path in target.corpus.iterdir()} == seed_files(target)


def test_every_folder_of_the_corpus_has_its_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == {target.name for target in TARGETS}


def test_a_decoder_that_raises_anything_else_is_caught_and_its_input_kept(tmp_path: Path) -> None:
    def broken(data: bytes) -> None:
        if data[:1] == b"!":
            raise KeyError("x")

    judge = Judge(Target("wire.broken", broken, list), "mutation", tmp_path)
    judge(b"fine")
    with pytest.raises(InputError, match="KeyError"):
        judge(b"!boom")
    assert (tmp_path / "wire.broken.bin").read_bytes() == b"!boom"
    assert (judge.tally.executions, judge.finish().crashes) == (2, 1)


def test_the_same_seed_damages_in_the_same_way() -> None:
    corpus = [b"abcdef", b"0123456789"]
    first, second, other = (mutations(corpus, seed, 64) for seed in (1, 1, 2))
    inputs = [next(first) for _ in range(200)]
    assert inputs == [next(second) for _ in range(200)]
    assert inputs != [next(other) for _ in range(200)]
    assert max(map(len, inputs)) <= 64
