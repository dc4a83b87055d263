"""The cloud's process: a worker of the product and the yardsticks' server, over the same weights."""

from __future__ import annotations

import asyncio
import multiprocessing
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Final, Self

import torch

from broker.connect import transport_for
from broker.presence import Presence
from cloud_worker.engine import CloudEngine
from cloud_worker.worker import CloudWorker
from ops.bench.paper.climb import rungs_of
from ops.bench.paper.places import TENANT, Place, broker_at, stay_on
from ops.bench.paper.script import Script
from ops.bench.paper.server import YardstickServer
from ops.bench.paper.words import UP_TOPIC
from shared.context.memory import MemoryContextStore
from shared.errors import LinkError
from shared.log import setup_logging
from shared.model.bundle import Bundle
from shared.model.loading import load_cloud, load_edge
from shared.model.precision import precision_named
from shared.wire import topics

_WORKER: Final = "w-1"
_START_TIMEOUT_S: Final = 180.0
_ANSWER_TIMEOUT_S: Final = 10.0
READY: Final = "ready"


class CloudProcess:
    """The cloud as a child process; scripts are told to it past the link.

    Args:
        place: what it serves, and where.
    """

    def __init__(self, place: Place) -> None:
        context = multiprocessing.get_context("spawn")
        self._control, theirs = context.Pipe()
        self._theirs = theirs
        self._process = context.Process(target=_serve, args=(theirs, place), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()  # so that its end shows here
        self._answer(_START_TIMEOUT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._control.close()
        self._process.join(_ANSWER_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()

    def tell(self, script: Script | None) -> None:
        """What the exits say of the next text."""
        self._control.send(script)
        self._answer(_ANSWER_TIMEOUT_S)

    def _answer(self, timeout_s: float) -> None:
        try:
            if self._control.poll(timeout_s) and self._control.recv() == READY:
                return
        except EOFError:
            pass
        raise LinkError(f"the cloud's process has ended, or did not answer within {timeout_s:g} s")


def _serve(control: Connection, place: Place) -> None:
    setup_logging("error")
    stay_on([place.cloud_core])
    torch.set_num_threads(1)
    asyncio.run(_run(control, place))


async def _run(control: Connection, place: Place) -> None:
    async with AsyncExitStack() as stack:
        server = await _start(stack, place)
        over = asyncio.Event()

        def on_control() -> None:
            try:
                server.script = control.recv()
            except (EOFError, OSError):
                asyncio.get_running_loop().remove_reader(control.fileno())
                over.set()
                return
            control.send(READY)

        asyncio.get_running_loop().add_reader(control.fileno(), on_control)
        control.send(READY)
        await over.wait()


async def _start(stack: AsyncExitStack, place: Place) -> YardstickServer:
    bundle, precision = Bundle.open(place.bundle), precision_named(place.weights)
    edge = load_edge(bundle, precision.dtype, linear=precision.linear)
    cloud = load_cloud(bundle, precision.dtype, linear=precision.linear)
    presence = Presence(topics.worker_status_topic(TENANT, _WORKER), bundle.name, bundle.digest)
    broker = broker_at(place.broker_port)
    ours = await stack.enter_async_context(transport_for(broker, f"{TENANT}.worker.{_WORKER}", presence))
    theirs = await stack.enter_async_context(transport_for(broker, f"{TENANT}.yardstick"))
    worker = CloudWorker(
        ours,
        CloudEngine(cloud, bundle.hidden_size, bundle.vocab_size, threads=1),
        MemoryContextStore(ttl_s=600.0),
        worker=_WORKER,
        tenant=TENANT,
        model=bundle.name,
        digest=bundle.digest,
    )
    await worker.start()
    stack.push_async_callback(worker.stop)
    rungs = rungs_of(bundle, place.thresholds, edge, cloud)
    server = YardstickServer(theirs, rungs, bundle.eos_token_ids, place.task(bundle).constraint)
    stack.callback(server.close)
    await theirs.subscribed(UP_TOPIC, _ANSWER_TIMEOUT_S)
    return server
