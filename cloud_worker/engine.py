"""The worker's model: one packed forward of the cloud stage for many sessions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor

from cloud_worker.work import Done, Work
from shared.errors import AntiphonError, CodecError, ContextGapError, EngineError, EvictedError, WireError
from shared.model.device import wait_for
from shared.model.draws import Wanted
from shared.model.loading import CloudModel
from shared.model.sampling import Draw
from shared.model.stage import Segment, StageCache
from shared.model.wanted_draws import draw_wanted
from shared.tensors.codec import codec_named
from shared.wire.messages import DrawnToken
from shared.wire.topics import SessionAddress

# Rows whose logits are held at once: 64 of a vocabulary of 256,000 are 64 MiB.
ROWS_PER_HEAD = 64


class CloudEngine:
    """Runs batches and holds every session's KV cache. Used from one thread only.

    Args:
        model: the bundle's cloud stage and LM head.
        hidden_size: width of the states.
        vocab_size: how many tokens there are.
        threads: torch threads of this process.

    Attributes:
        layers: of the model's cloud stage.
    """

    def __init__(self, model: CloudModel, hidden_size: int, vocab_size: int, *, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self._model = model
        self.layers = model.stage.layers
        self.hidden_size = hidden_size
        self._vocab_size = vocab_size
        self._caches: dict[SessionAddress, StageCache] = {}

    def drop(self, addresses: Sequence[SessionAddress]) -> None:
        """Free the caches of sessions."""
        for address in addresses:
            self._caches.pop(address, None)

    def kv_bytes(self) -> dict[SessionAddress, int]:
        """Bytes of each session's cache."""
        return {address: cache.nbytes for address, cache in self._caches.items()}

    def run(self, batch: Sequence[Work], now_s: float) -> list[Done]:
        """Run a batch in one packed forward.

        A work whose states are malformed fails alone. If the forward itself fails, each session is
        run by itself, so that only the session that breaks the engine has an error:

        - `EvictedError`: there was not enough memory;
        - `EngineError`: the engine can't even run a row of its own any more;
        - whatever was raised: the session's rows or its cache, which is dropped, are to blame.
        """
        good: list[tuple[Work, Tensor]] = []
        done: list[Done] = []
        ends: dict[SessionAddress, int] = {}
        decoded = self._decoded(batch)
        for work in batch:
            try:
                self._check(work, ends.get(work.address, self._frontier(work.address)))
                rows = decoded[id(work)] if id(work) in decoded else self._decode([work])
            except AntiphonError as error:
                done.append(Done(work, error=error))
            except Exception as error:  # noqa: BLE001  no memory for the rows, say
                done.append(Done(work, error=self._blamed(error)))
            else:
                good.append((work, rows))
                ends[work.address] = work.end_position
        return done + self._run_apart(good, now_s)

    def _frontier(self, address: SessionAddress) -> int:
        cache = self._caches.get(address)
        return 0 if cache is None else cache.frontier

    def _check(self, work: Work, frontier: int) -> None:
        """See that a work can be run.

        Raises:
            ContextGapError: the cache ends before its rows (it was freed, or what came before was refused).
            WireError: a token is allowed that the model does not have.
        """
        if work.from_position > frontier:
            msg = f"rows start at {work.from_position}, the cache ends at {frontier}"
            raise ContextGapError(msg, frontier)
        if any(token >= self._vocab_size for ids in work.allowed for token in ids):
            msg = "an allowed token id is outside the model's vocabulary"
            raise WireError(msg)

    def _decoded(self, batch: Sequence[Work]) -> dict[int, Tensor]:
        """The rows of works by their `id`, those of one codec decoded in one go.

        Works are missing where one of their codec is malformed: by themselves that one alone fails.
        """
        rows: dict[int, Tensor] = {}
        for codec in {work.codec for work in batch}:
            works = [work for work in batch if work.codec == codec and self._is_whole(work)]
            try:
                together = self._decode(works) if works else None
            except Exception:  # noqa: BLE001, S112  whoever is to blame says so by itself
                continue
            if together is not None:
                parts = torch.split(together, [work.count for work in works])
                rows.update(zip(map(id, works), parts, strict=True))
        return rows

    def _is_whole(self, work: Work) -> bool:
        """Whether its states have the length that they must have: else one would run into the next."""
        try:
            return len(work.states) == work.count * codec_named(work.codec).row_bytes(self.hidden_size)
        except CodecError:
            return False

    def _decode(self, works: Sequence[Work]) -> Tensor:
        """The rows of works of one codec, (all their rows, hidden).

        Raises:
            CodecError: they are malformed.
        """
        states = b"".join(work.states for work in works)
        count = sum(work.count for work in works)
        return codec_named(works[0].codec).decode(states, count, self.hidden_size)

    def _run_apart(self, items: list[tuple[Work, Tensor]], now_s: float) -> list[Done]:
        """Run together; after a failure, session by session."""
        if not items:
            return []
        try:
            return self._forward(items, now_s)
        except Exception as error:  # noqa: BLE001  whatever a session's rows provoke stays with that session
            groups = [list(group) for _, group in groupby(items, key=lambda item: item[0].address)]
            if len(groups) == 1:
                return self._failed([work for work, _ in items], error)
            return [done for group in groups for done in self._run_apart(group, now_s)]

    def _failed(self, works: Sequence[Work], error: Exception) -> list[Done]:
        """A session's works broke the forward: its cache goes, since nobody knows what is in it."""
        self.drop([works[0].address])
        gap = ContextGapError("the cache was dropped after a failure", 0)
        return [Done(works[0], error=self._blamed(error)), *(Done(work, error=gap) for work in works[1:])]

    def _blamed(self, error: Exception) -> Exception:
        """What an exception says about the session, the machine or the engine."""
        if isinstance(error, AntiphonError):
            return error
        if not self._is_sound():  # a process without memory for a single row is of no use either
            return EngineError(f"the worker's engine is broken ({type(error).__name__}): open elsewhere")
        if is_out_of_memory(error):
            return EvictedError("the worker had no memory for this step: open the session again")
        return error

    @torch.inference_mode()
    def _is_sound(self) -> bool:
        """Whether a row of ones, in a cache of its own, still goes through."""
        try:
            segment = Segment(self._model.stage.new_cache(), 1)
            out = self._model.stage.forward(torch.ones(1, self.hidden_size), [segment])
            return bool(torch.isfinite(self._model.head.logits(out)).all())
        except Exception:  # noqa: BLE001  whatever it is, the answer is no
            return False

    @torch.inference_mode()
    def _forward(self, items: list[tuple[Work, Tensor]], now_s: float) -> list[Done]:
        started_s = time.perf_counter()
        segments = self._segments([work for work, _ in items])
        rows = torch.cat([rows for _, rows in items])  # (total, hidden)
        out = self._model.stage.forward(rows, segments)  # (total, hidden)
        tokens = self._draw([work for work, _ in items], out)
        wait_for(out)
        share_us = (time.perf_counter() - started_s) * 1e6 / len(rows)
        return [
            Done(
                work,
                tuple(drawn),
                compute_us=round(share_us * work.count),
                queue_us=max(0, round((now_s - work.arrived_s) * 1e6)),
                batch_sessions=len(segments),
            )
            for (work, _), drawn in zip(items, tokens, strict=True)
        ]

    def _segments(self, works: Sequence[Work]) -> list[Segment]:
        """One segment a session: its works of this batch follow one another."""
        segments = []
        for address, group in groupby(works, key=lambda work: work.address):
            run = list(group)
            cache = self._caches.get(address)
            if cache is None:
                cache = self._caches[address] = self._model.stage.new_cache()
            cache.truncate(run[0].from_position)
            segments.append(Segment(cache, sum(work.count for work in run)))
        return segments

    def _draw(self, works: Sequence[Work], out: Tensor) -> list[list[DrawnToken]]:
        """The wanted tokens of each work; the LM head runs only on wanted rows."""
        rows, wanted, first_row = [], [], 0
        for work in works:
            rows += [first_row + position - work.from_position for position in work.wants]
            wanted += _wanted(work)
            first_row += work.count
        drawn = self._drawn(out, rows, wanted)
        return [
            [DrawnToken(position, *token) for position, token in zip(work.wants, drawn, strict=False)]
            for work in works
        ]

    def _drawn(self, out: Tensor, rows: Sequence[int], wanted: Sequence[Wanted]) -> Iterator[Draw]:
        """A token from each of the rows, a few at a time: a large vocabulary's logits are megabytes each.

        Raises:
            FloatingPointError: they are not finite; a draw from them would be a confident lie.
        """
        for start in range(0, len(rows), ROWS_PER_HEAD):
            end = start + ROWS_PER_HEAD
            yield from draw_wanted(self._model.head, out[rows[start:end]], wanted[start:end])


def _wanted(work: Work) -> list[Wanted]:
    """The tokens that a work wants, in the order of its `wants`."""
    allowed = [*work.allowed, *[()] * (len(work.wants) - len(work.allowed))]
    return [
        Wanted(position + 1, work.sampling, ids) for position, ids in zip(work.wants, allowed, strict=False)
    ]


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception says that memory is short; torch on a CPU has no class for it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


_OUT_OF_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    # oneDNN does not say why, but what it refuses to a stage that has run before is memory.
    "could not create a primitive",
    "could not create a memory",
    "could not execute a primitive",
)
