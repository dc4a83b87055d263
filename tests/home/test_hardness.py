"""A second round keeps what the first one finds hard, and the mixture stays what it was."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn.functional import cross_entropy

from ops.home.dataset import Dataset, build, in_order
from ops.home.hardness import answer_nats, harder
from ops.home.model import ExitModel, home_config
from ops.home.train import weighted_losses

Nats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return build(600, seed=5, tokenizer=TOKENIZER)[1]


@pytest.fixture(scope="module")
def model() -> ExitModel:
    torch.manual_seed(0)
    return ExitModel(home_config(TOKENIZER))


TOKENIZER, _ = build(400, seed=1)
PAD = int(TOKENIZER.pad_token_id or 0)


def mixed_nats(rows: int) -> Nats:
    """One row in eight hard."""
    return np.where(np.arange(rows) % 8 == 0, 2.0, 0.01).astype(np.float32)


def test_every_row_is_read_once(data: Dataset) -> None:
    seen = np.concatenate([rows for rows, _ in in_order(data, 512, PAD)])
    assert sorted(seen) == list(range(len(data)))


def test_an_answer_costs_what_the_first_exit_says_of_it_alone(model: ExitModel, data: Dataset) -> None:
    nats = answer_nats(model, data, 512, PAD)
    first = min(model.exits)
    for index in (0, 17, 300):
        ids = torch.from_numpy(data.row(index)).long()
        start = int(data.answers[index])
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            logits = model.eval().logits(model.hidden(ids[None])[first])[0, start - 1 : -1]
        alone = float(cross_entropy(logits.float(), ids[start:], reduction="sum"))
        assert nats[index] == pytest.approx(alone, rel=0.02)


def test_hard_rows_are_all_kept_and_count_as_before(data: Dataset) -> None:
    chosen = harder(data, mixed_nats(len(data)), seed=1)
    assert np.count_nonzero(chosen.weights == 1.0) == np.count_nonzero(mixed_nats(len(data)) > 1)


def test_what_is_kept_weighs_as_much_as_all_did(data: Dataset) -> None:
    nats = mixed_nats(len(data))
    kept = [harder(data, nats, seed) for seed in range(20)]
    assert max(len(chosen) for chosen in kept) < len(data) / 3
    assert np.mean([chosen.weights.sum() for chosen in kept]) == pytest.approx(len(data), rel=0.1)


def test_the_choice_follows_from_the_seed(data: Dataset) -> None:
    nats = mixed_nats(len(data))
    one, same, other = (harder(data, nats, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.ids, same.ids)
    assert len(one) != len(other) or not np.array_equal(one.ids, other.ids)


def test_rows_stay_whole_when_some_are_chosen(data: Dataset) -> None:
    rows = np.array([3, 5, 8])
    chosen = data.chosen(rows, np.ones(3, np.float32))
    for place, row in enumerate(rows):
        assert np.array_equal(chosen.row(place), data.row(int(row)))
        assert (chosen.homes[place], chosen.answers[place]) == (data.homes[row], data.answers[row])


def test_a_row_that_weighs_twice_counts_twice_in_the_loss(model: ExitModel, data: Dataset) -> None:
    several = torch.tensor([], dtype=torch.int64)

    def loss(weights: list[float]) -> float:
        chosen = data.chosen(rows[: len(weights)], np.array(weights, np.float32))
        _, batch = next(in_order(chosen, 128, PAD))
        rivals = torch.Generator().manual_seed(0)
        return float(weighted_losses(model.eval(), batch, rivals, several)[6][0].detach())

    lengths = np.diff(data.starts)
    rows = np.flatnonzero((lengths > 24) & (lengths <= 32))[:2]
    alike = loss([1.0, 1.0])
    assert loss([2.0, 2.0]) == pytest.approx(alike, rel=1e-3)
    assert loss([3.0, 1.0]) != pytest.approx(alike, rel=1e-3)
