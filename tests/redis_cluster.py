"""A Redis Cluster of real nodes on free ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import redis.asyncio as aioredis

from tests.servers import RedisServer, free_port

SLOTS = 16_384
FORM_TIMEOUT_S = 30.0


class ClusterNode(RedisServer):
    """A node that knows of no other and serves no slot."""

    name = "redis-cluster"

    def command(self) -> list[str]:
        # By default nodes would talk on the port 10,000 higher, which there may not be.
        places = ["--cluster-port", str(free_port()), "--cluster-config-file", "nodes.conf"]
        quick = ["--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no"]
        return [*super().command(), "--cluster-enabled", "yes", *places, *quick]

    async def send(self, *words: str | int) -> bytes:
        """Send one command."""
        async with aioredis.Redis(host=self.host, port=self.port) as client:
            answer = await client.execute_command(*words)  # type: ignore[no-untyped-call,unused-ignore]
        return answer if isinstance(answer, bytes) else repr(answer).encode()


async def serve_slots(nodes: Sequence[ClusterNode]) -> None:
    """Have the nodes share all slots."""
    first, share = nodes[0], -(-SLOTS // len(nodes))
    for number, node in enumerate(nodes):
        start = number * share
        await node.send("CLUSTER", "ADDSLOTSRANGE", start, min(start + share, SLOTS) - 1)
    for node in nodes[1:]:
        async with aioredis.Redis(host=node.host, port=node.port) as client:
            bus = (await client.config_get("cluster-port"))["cluster-port"]
        await first.send("CLUSTER", "MEET", node.host, node.port, bus)
    async with asyncio.timeout(FORM_TIMEOUT_S):
        for node in nodes:
            while not await _serves(node):  # noqa: ASYNC110  it has no event for it
                await asyncio.sleep(0.05)


async def _serves(node: ClusterNode) -> bool:
    """Whether it knows who has which slot."""
    info = await node.send("CLUSTER", "INFO")
    return b"cluster_state:ok" in info and f"cluster_slots_assigned:{SLOTS}".encode() in info


@asynccontextmanager
async def redis_cluster(folder: Path, nodes: int) -> AsyncIterator[list[ClusterNode]]:
    """Running nodes that serve all slots together."""
    with ExitStack() as stack:
        made = [stack.enter_context(ClusterNode(folder / f"node-{number}")) for number in range(nodes)]
        await serve_slots(made)
        yield made
