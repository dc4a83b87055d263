"""The yardstick: the same stages and the same head, one after another, in one process."""

from __future__ import annotations

import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import torch
from torch import Tensor

from ops.bench.cores import pin
from shared.model.bundle import Bundle
from shared.model.loading import load_cloud, load_edge
from shared.model.sampling import GREEDY, draw
from shared.model.stage import Segment, StageCache
from shared.tensors.codec import codec_named

STOP_TIMEOUT_S = 10.0


class Order(msgspec.Struct, frozen=True):
    """What is to be decoded, and where.

    Attributes:
        ids: the prompt. tokens: to decode. core: None: any.
        beside: also time, after each token, what the split adds to it: the codec. It costs the token caches,
            so such a run's token times are not the yardstick.
    """

    ids: list[int]
    tokens: int
    core: int | None
    beside: bool = False


class Decoded(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        ids: the tokens. token_s: of each one after the first.
        pieces_s: the same by piece: the `edge`'s stages, the `cloud`'s with head and draw; `codec`.
    """

    ids: list[int]
    token_s: list[float]
    pieces_s: dict[str, list[float]]


class UnsplitModel:
    """All layers of a bundle, greedy.

    Args:
        bundle: its edge's stages run first, then the cloud's, then the model's own head.
        codec: whose price is measured beside.
    """

    def __init__(self, bundle: Bundle, codec: str) -> None:
        torch.set_num_threads(1)
        edge, cloud = load_edge(bundle), load_cloud(bundle)
        self._edge = edge.stages
        self._cloud = cloud.stage
        self._head = cloud.head
        self._codec = codec_named(codec)

    @torch.inference_mode()
    def decode(self, order: Order) -> Decoded:
        """Decode, and time each token: its stages, its head and its draw."""
        pin(order.core)
        caches = [stage.new_cache() for stage in (*self._edge, self._cloud)]
        ids, pending = list(order.ids), list(order.ids)
        pieces_s: dict[str, list[float]] = {"edge": [], "cloud": [], "codec": []}
        for _ in range(order.tokens):
            started_s = time.perf_counter()
            states = self._rungs(torch.tensor(pending), caches[:-1])
            crossed_s = time.perf_counter()
            pending = [self._answer(states, caches[-1], len(ids))]
            pieces_s["edge"].append(crossed_s - started_s)
            pieces_s["cloud"].append(time.perf_counter() - crossed_s)
            ids += pending
            if order.beside:
                pieces_s["codec"].append(self._coding_s(states))
        later = {piece: seconds[1:] for piece, seconds in pieces_s.items()}
        token_s = [edge_s + cloud_s for edge_s, cloud_s in zip(later["edge"], later["cloud"], strict=True)]
        return Decoded(ids[len(order.ids) :], token_s, later)

    def _rungs(self, rows: Tensor, caches: list[StageCache]) -> Tensor:
        """The edge's stages: the states that leave the last."""
        for stage, cache in zip(self._edge, caches, strict=True):
            rows = stage.forward(rows, [Segment(cache, rows.shape[0])])
        return rows

    def _answer(self, states: Tensor, cache: StageCache, position: int) -> int:
        out = self._cloud.forward(states, [Segment(cache, states.shape[0])])
        return draw(self._head.logits(out[-1:])[0], GREEDY, position).token

    def _coding_s(self, states: Tensor) -> float:
        started_s = time.perf_counter()
        self._codec.decode(self._codec.encode(states), states.shape[0], states.shape[1])
        return time.perf_counter() - started_s


class UnsplitProcess:
    """An `UnsplitModel` in a process of its own, from `with` to its end.

    Args:
        bundle: the bundle's folder.
        codec: see `UnsplitModel`.
    """

    def __init__(self, bundle: Path, codec: str) -> None:
        context = get_context("forkserver")
        self._mine, self._theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._theirs, bundle, codec), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()  # or its end would never be noticed here
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mine.close()
        self._process.join(STOP_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(STOP_TIMEOUT_S)

    def decode(self, order: Order) -> Decoded:
        """Have it decode; blocks until it is done.

        Raises:
            EOFError: the process ended.
        """
        self._mine.send_bytes(msgspec.msgpack.encode(order))
        return msgspec.msgpack.decode(self._mine.recv_bytes(), type=Decoded)


def _serve(connection: Connection, bundle: Path, codec: str) -> None:
    model = UnsplitModel(Bundle.open(bundle), codec)
    while True:
        try:
            order = msgspec.msgpack.decode(connection.recv_bytes(), type=Order)
        except EOFError:
            return
        connection.send_bytes(msgspec.msgpack.encode(model.decode(order)))
