"""Samples as rows of token ids on disk, cut into batches of like length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerFast

from ops.folders import settle
from ops.home.sample import Sample
from ops.home.samples import SampleMaker
from ops.home.senses import common_words
from ops.home.templates import Grammar
from ops.home.tokenizer import train_tokenizer
from shared.errors import ConfigError

MAX_TOKENS: Final = 128
# Rows of like length share a batch; finer steps would leave batches of few rows.
WIDTHS: Final = tuple(range(16, MAX_TOKENS + 1, 8))
_TOKENIZER_SAMPLES: Final = 40_000
_CHUNK: Final = 10_000
_MAX_CHUNKS: Final = 1_000_000

Ids = npt.NDArray[np.int32]


class Dataset(msgspec.Struct):
    """Token rows laid end to end.

    Attributes:
        ids: all rows' tokens; row `i` is `ids[starts[i]:starts[i+1]]`.
        starts: where each row begins, and where the last ends.
        homes: `(rows,)` where in its row the home's lines begin.
        answers: `(rows,)` where in its row the answer begins.
        weights: `(rows,)` what each row counts in the loss.
    """

    ids: Ids
    starts: npt.NDArray[np.int64]
    homes: Ids
    answers: Ids
    weights: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.answers)

    def row(self, index: int) -> Ids:
        """One sample's token ids, prompt, answer and end."""
        return self.ids[self.starts[index] : self.starts[index + 1]]

    def chosen(self, rows: npt.NDArray[np.int64], weights: npt.NDArray[np.float32]) -> Dataset:
        """Some rows, with weights of their own."""
        lengths = np.diff(self.starts)[rows]
        return Dataset(
            ids=np.concatenate([self.row(int(row)) for row in rows]),
            starts=np.cumsum([0, *lengths], dtype=np.int64),
            homes=self.homes[rows],
            answers=self.answers[rows],
            weights=weights,
        )

    def save(self, path: Path) -> None:
        """Write to one .npz file, which is whole or not there."""
        fresh = path.with_name("new-" + path.name)  # savez wants the suffix
        np.savez(fresh, **{name: getattr(self, name) for name in self.__struct_fields__})
        settle(fresh, path)

    @staticmethod
    def load(path: Path) -> Dataset:
        """Read what `save` wrote."""
        with np.load(path) as file:
            if set(file) != set(Dataset.__struct_fields__):
                raise ConfigError(
                    f"{path} is of another version of training; remove it to make the data anew"
                )
            return Dataset(*(file[name] for name in Dataset.__struct_fields__))


class Batch(msgspec.Struct):
    """Rows padded to one width.

    Attributes:
        ids: `(rows, width)` token ids, padded on the right.
        homes: `(rows,)` where the home's lines begin.
        answers: `(rows,)` where each answer begins.
        lengths: `(rows,)` tokens of each row without padding.
        weights: `(rows,)` what each row counts in the loss.
    """

    ids: Ids
    homes: Ids
    answers: Ids
    lengths: Ids
    weights: npt.NDArray[np.float32]


def build(
    count: int, seed: int, processes: int = 1, tokenizer: PreTrainedTokenizerFast | None = None
) -> tuple[PreTrainedTokenizerFast, Dataset]:
    """Draw `count` training samples, learn the vocabulary from the first of them, and encode all.

    Args:
        count: samples.
        seed: everything follows from it, whatever the number of processes.
        processes: to draw with; a sample takes a core about a millisecond.
        tokenizer: a vocabulary that is there already; none is learned then.
    """
    chunks = [
        (seed, number, min(_CHUNK, count - start)) for number, start in enumerate(range(0, count, _CHUNK))
    ]
    with _mapper(processes) as mapped:
        drawn = iter(mapped(_draw, chunks))
        first = [] if tokenizer else list(islice(drawn, max(1, _TOKENIZER_SAMPLES // _CHUNK)))
        texts = (sample.prompt + sample.answer for chunk in first for sample in chunk)
        tokenizer = tokenizer or train_tokenizer(texts, common_words())
        parts = [encode(tokenizer, chunk) for chunk in chain(first, drawn)]
    return tokenizer, _joined(parts)


@contextmanager
def _mapper(processes: int) -> Iterator[Callable[..., Iterable[list[Sample]]]]:
    """`map`, in this process or spread over several."""
    if processes == 1:
        yield map
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield pool.map


@cache
def _grammar() -> Grammar:
    """All templates, read once in each process; each is parsed when it is first drawn."""
    return Grammar()


def _draw(chunk: tuple[int, int, int]) -> list[Sample]:
    """A chunk's samples; each chunk has a seed of its own."""
    seed, number, count = chunk
    maker = SampleMaker(_grammar(), seed * _MAX_CHUNKS + number)
    return [maker.draw() for _ in range(count)]


def encode(tokenizer: PreTrainedTokenizerFast, samples: list[Sample]) -> Dataset:
    """Token rows of `samples`; the few that are longer than `MAX_TOKENS` are left out."""
    # A line's head never merges with what stands before it, so the parts' tokens are the whole's.
    requests = tokenizer([sample.prompt.partition("\n")[0] for sample in samples])["input_ids"]
    prompts = tokenizer([sample.prompt for sample in samples])["input_ids"]
    replies = tokenizer([sample.answer for sample in samples])["input_ids"]
    parts = [
        part
        for part in zip(requests, prompts, replies, strict=True)
        if len(part[1]) + len(part[2]) < MAX_TOKENS
    ]
    rows = [np.array([*prompt, *reply, tokenizer.eos_token_id], np.int32) for _, prompt, reply in parts]
    return Dataset(
        ids=np.concatenate(rows),
        starts=np.cumsum([0, *map(len, rows)], dtype=np.int64),
        homes=np.array([len(request) for request, _, _ in parts], np.int32),
        answers=np.array([len(prompt) for _, prompt, _ in parts], np.int32),
        weights=np.ones(len(parts), np.float32),
    )


def _joined(parts: list[Dataset]) -> Dataset:
    lengths = np.concatenate([np.diff(part.starts) for part in parts])
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Dataset(
        ids=np.concatenate([part.ids for part in parts]),
        starts=starts,
        homes=np.concatenate([part.homes for part in parts]),
        answers=np.concatenate([part.answers for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
    )


def batches(data: Dataset, tokens: int, seed: int, pad: int, skip: int = 0) -> Iterator[Batch]:
    """Endless shuffled batches of `tokens` tokens, each row padded to one of `WIDTHS`.

    Args:
        data: what to draw from; every epoch sees every row once, but for the few that fill no batch.
        tokens: tokens in a batch, padding included.
        seed: the order follows from it and the epoch.
        pad: the padding id.
        skip: batches to leave out at the beginning, to go on where a run stopped.
    """
    widths = _widths(data)
    epoch = 0
    while True:
        rng = np.random.default_rng((seed, epoch))
        groups = [group for width in WIDTHS for group in _groups(rng, widths, width, tokens)]
        for index in rng.permutation(len(groups)):
            if skip:
                skip -= 1
                continue
            width, rows = groups[index]
            yield _pad(data, rows, width, pad)
        epoch += 1


def in_order(data: Dataset, tokens: int, pad: int) -> Iterator[tuple[npt.NDArray[np.int64], Batch]]:
    """Every row once: the rows' numbers and their batch, those of like length together."""
    widths = _widths(data)
    for width in WIDTHS:
        members = np.flatnonzero(widths == width)
        for low in range(0, len(members), tokens // width):
            rows = members[low : low + tokens // width]
            yield rows, _pad(data, rows, width, pad)


def _widths(data: Dataset) -> npt.NDArray[np.int64]:
    """`(rows,)` the width that each row is padded to."""
    return np.array(WIDTHS)[np.searchsorted(WIDTHS, np.diff(data.starts))]


def _groups(
    rng: np.random.Generator, widths: npt.NDArray[np.int64], width: int, tokens: int
) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """`(width, rows)` groups: the rows that fit `width` and no narrower, shuffled, a batch each."""
    members = rng.permutation(np.flatnonzero(widths == width))
    count = tokens // width
    return [(width, members[low : low + count]) for low in range(0, len(members) - count + 1, count)]


def _pad(data: Dataset, rows: npt.NDArray[np.int64], width: int, pad: int) -> Batch:
    ids = np.full((len(rows), width), pad, np.int32)
    lengths = np.zeros(len(rows), np.int32)
    for line, index in enumerate(rows):
        row = data.row(int(index))
        ids[line, : len(row)] = row
        lengths[line] = len(row)
    return Batch(ids, data.homes[rows], data.answers[rows], lengths, data.weights[rows])
