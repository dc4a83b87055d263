"""What the edge believes of its worker's rows, and what it sends."""

from __future__ import annotations

import pytest

import edge_agent.upload as upload_module
from edge_agent.states import StateLog
from edge_agent.upload import Upload
from edge_agent.want import Want
from tests.simulation.mutants import UPLOAD_MUTANTS, Mutant
from tests.simulation.upload_walk import walk

ROWS = 10
WALKS = 4_000
# A planted bug takes a few hundred at most.
HUNTED = 5_000


@pytest.fixture
def states() -> StateLog:
    states = StateLog(1)
    states.append(bytes(range(ROWS)))
    return states


@pytest.fixture
def upload(states: StateLog) -> Upload:
    upload = Upload(states, "int8")
    upload.begin(1)
    upload.open_at(0)
    return upload


def sent(upload: Upload, wants=(), end: int = ROWS) -> list[tuple[int, int]]:
    return [(step.from_position, step.count) for step in upload.steps([Want(each) for each in wants], end)]


def test_only_what_is_new_goes_up(upload: Upload):
    assert sent(upload, end=4) == [(0, 4)]
    assert sent(upload, end=7) == [(4, 3)]
    assert sent(upload, end=7) == []
    assert upload.rows_sent == 7


def test_a_wanted_position_that_the_worker_has_goes_up_with_all_behind_it(upload: Upload):
    upload.open_at(8)
    assert sent(upload, wants=[5, 9]) == [(5, 5)]


def test_steps_are_cut_into_chunks_and_each_wants_what_it_holds(
    upload: Upload, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(upload_module, "CHUNK_BYTES", 4)
    steps = upload.steps([Want(3), Want(8, (7, 9)), Want(9)], ROWS)
    assert [(step.from_position, step.count) for step in steps] == [(0, 4), (4, 4), (8, 2)]
    assert [step.wants for step in steps] == [[3], [], [8, 9]]
    assert [step.allowed for step in steps] == [[], [], [[7, 9], []]]


def test_steps_name_their_codec_their_epoch_and_the_step_before(upload: Upload):
    upload.begin(3)
    upload.open_at(0)
    steps = [*upload.steps([], 4), *upload.steps([], 6), *upload.steps([], 8)]
    assert [(step.epoch, step.number, step.after, step.codec) for step in steps] == [
        (3, 1, 0, "int8"),
        (3, 2, 1, "int8"),
        (3, 3, 2, "int8"),
    ]


def test_rewritten_rows_go_up_again(upload: Upload, states: StateLog):
    sent(upload)
    upload.rewind(6)
    states.truncate(6)
    states.append(b"new")
    (step,) = upload.steps([], 9)
    assert (step.from_position, step.states, step.after) == (6, b"new", 1)


def test_a_rewind_of_rows_that_nobody_was_sent_costs_nothing(upload: Upload):
    sent(upload, end=5)
    upload.rewind(5)
    sent(upload)
    upload.resume_at(8, taken=1)
    assert upload.sent == 8


@pytest.mark.parametrize(("taken", "believed"), [(0, 4), (1, 4), (2, 6), (3, 9)])
def test_a_worker_is_believed_up_to_what_was_rewritten_since_its_newest_step(
    upload: Upload, taken: int, believed: int
):
    sent(upload)
    upload.rewind(4)
    sent(upload)
    upload.rewind(6)
    sent(upload)
    upload.resume_at(9, taken)
    assert upload.sent == believed


def test_a_new_worker_speaks_for_a_log_and_is_believed_up_to_the_lowest_row_rewritten_ever(upload: Upload):
    sent(upload)
    for position in (8, 5, 7):
        upload.rewind(position)
        sent(upload)
    for epoch in (2, 3):
        upload.begin(epoch)
        upload.open_at(9)
        assert upload.sent == 5


def test_a_word_about_a_step_of_an_earlier_run_is_out_of_date(upload: Upload):
    sent(upload, end=5)
    sent(upload)
    upload.resume_at(3, taken=0)
    assert not upload.is_current(2)
    sent(upload)
    assert upload.is_current(3)


def test_what_a_worker_takes_goes_on_from_rows_of_the_same_text_in_every_history():
    """Steps lost, doubled, late; workers that die, come back, or lose the session; rewinds all the time."""
    for seed in range(WALKS):
        history = walk(seed)
        story = "\n".join(history.story)
        assert not history.wrong, f"seed {seed}:\n{story}\ntaken on other rows: {history.wrong}"


@pytest.mark.parametrize("mutant", UPLOAD_MUTANTS, ids=str)
def test_a_history_finds_a_planted_bug(mutant: Mutant):
    with mutant.planted():
        assert any(walk(seed).wrong for seed in range(HUNTED))
