"""Which requests an earlier round still finds hard, so that the next one spends its time on those.

After a round, nine answers in ten are right and teach next to nothing: nine tenths of the loss come from one
request in eight. Of the easy ones a share is kept, and weighs more, so that the mixture stays what it was:
sampling by importance (Katharopoulos and Fleuret 2018, arXiv 1803.00942), once for a whole round.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ops.home.dataset import Batch, Dataset, in_order
from ops.home.model import ExitModel

# Of the requests that the earlier round is sure of, this share is kept; what costs so much is kept for sure.
_EASIEST: Final = 0.15
_HARD_NATS: Final = 0.5


def answer_nats(model: ExitModel, data: Dataset, batch_tokens: int, pad: int) -> npt.NDArray[np.float32]:
    """What each answer costs the first exit, which a few layers tell and which is hard where the whole is.

    Args:
        model: an earlier round's.
        data: the rows.
        batch_tokens: tokens in a batch, padding included.
        pad: the padding id.

    Returns:
        `(rows,)` cross-entropy of the answer's tokens, summed, in nats.
    """
    nats = np.zeros(len(data), np.float32)
    model.eval()
    for rows, batch in in_order(data, batch_tokens, pad):
        nats[rows] = _batch_nats(model, batch).numpy()
    model.train()
    return nats


@torch.inference_mode()
def _batch_nats(model: ExitModel, batch: Batch) -> Tensor:
    ids = torch.from_numpy(batch.ids).long()
    places = torch.arange(ids.shape[1])[None]
    answers = (places >= torch.from_numpy(batch.answers)[:, None] - 1) & (
        places < torch.from_numpy(batch.lengths)[:, None] - 1
    )
    first = min(model.exits)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.logits(model.hidden(ids, last=first)[first][answers])
    each = cross_entropy(logits.float(), torch.roll(ids, -1, 1)[answers], reduction="none")
    return torch.zeros(len(ids)).index_add_(0, answers.nonzero()[:, 0], each)


def harder(data: Dataset, nats: npt.NDArray[np.float32], seed: int) -> Dataset:
    """The rows to learn from: the hard ones, and of the others a share that weighs as much as all of them.

    Args:
        data: the rows.
        nats: `(rows,)` what each costs; see `answer_nats`.
        seed: of the choice.
    """
    chance = np.clip(nats / _HARD_NATS, _EASIEST, 1.0)
    kept = np.flatnonzero(np.random.default_rng(seed).random(len(data)) < chance)
    return data.chosen(kept, (1.0 / chance[kept]).astype(np.float32))
