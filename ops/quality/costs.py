"""What answers cost: forwards, rows, bytes and floating point operations, counted, not timed.

One forward takes all pending rows of a stage. A row of a stage costs two operations for each weight of
its matrices, and four for each key and head width that it attends to; norms and rotations are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from safetensors import safe_open

from ops.quality.policy import Trace
from shared.model.bundle import Bundle
from shared.model.manifest import CLOUD_FILE, EDGE_FILE, EXITS_FILE
from shared.tensors.codec import Codec

_OPERATIONS_PER_WEIGHT = 2


@dataclass(frozen=True)
class StageCost:
    """Operations of one rung.

    Attributes:
        row: for each row, attention left out.
        pair: for each row and each key that it attends to, over all layers of the stage.
        head: for each row whose token is looked for.
    """

    row: int
    pair: int
    head: int

    def forward(self, start: int, end: int) -> int:
        """Operations for the rows of positions `[start, end)`, and a token after the last of them."""
        pairs = (end * (end + 1) - start * (start + 1)) // 2
        return self.row * (end - start) + self.pair * pairs + self.head


@dataclass(frozen=True)
class Costs:
    """A bundle's prices.

    Attributes:
        stages: the edge's, then the cloud's.
        unsplit: all layers as one, with the LM head alone.
        row_bytes: of one row of states on its way to the cloud.
    """

    stages: tuple[StageCost, ...]
    unsplit: StageCost
    row_bytes: int


@dataclass(frozen=True)
class Use:
    """What answers used.

    Attributes:
        requests: forwards of the cloud.
        cloud_rows: rows in them.
        cloud_flops: floating point operations of them.
        edge_flops: those of the edge's stages and exits.
        unsplit_flops: those of a cloud that decodes the same tokens alone.
        uplink_bytes: encoded states that were sent, without message headers.
    """

    requests: int
    cloud_rows: int
    cloud_flops: int
    edge_flops: int
    unsplit_flops: int
    uplink_bytes: int

    def __add__(self, other: Use) -> Use:
        return Use(
            self.requests + other.requests,
            self.cloud_rows + other.cloud_rows,
            self.cloud_flops + other.cloud_flops,
            self.edge_flops + other.edge_flops,
            self.unsplit_flops + other.unsplit_flops,
            self.uplink_bytes + other.uplink_bytes,
        )


_NOTHING = Use(0, 0, 0, 0, 0, 0)


def costs_of(bundle: Bundle, codec: Codec) -> Costs:
    """Read a bundle's prices off its weights' shapes."""
    weights = {file: _weights(bundle, file) for file in (EDGE_FILE, EXITS_FILE, CLOUD_FILE)}
    config = bundle.manifest.config
    heads = int(config["num_attention_heads"])
    width = heads * int(config.get("head_dim") or bundle.hidden_size // heads)
    lm_head = _OPERATIONS_PER_WEIGHT * bundle.hidden_size * bundle.vocab_size
    plan = bundle.partition
    stages = []
    for stage in (*plan.edge_stages, plan.cloud_stage):
        file = CLOUD_FILE if stage is plan.cloud_stage or stage.index == len(plan.exits) else EDGE_FILE
        row = sum(_under(weights[file], f"layers.{layer}.") for layer in stage.layers)
        head = (
            lm_head if file == CLOUD_FILE else _exit_head(bundle, weights[EXITS_FILE], stage.index, lm_head)
        )
        stages.append(StageCost(row, 4 * width * len(stage.layers), head))
    whole = StageCost(sum(stage.row for stage in stages), sum(stage.pair for stage in stages), lm_head)
    return Costs(tuple(stages), whole, codec.row_bytes(bundle.hidden_size))


def used(traces: Iterable[Trace], costs: Costs) -> Use:
    """The use of all answers together."""
    return sum((_used(trace, costs) for trace in traces), _NOTHING)


def _used(trace: Trace, costs: Costs) -> Use:
    cloud = len(costs.stages) - 1
    frontiers = [0] * len(costs.stages)
    flops = [0] * len(costs.stages)
    unsplit = requests = start = 0
    for decision in trace.decisions:
        end = decision.place.length
        for rung in range(decision.rung + 1):
            flops[rung] += costs.stages[rung].forward(frontiers[rung], end)
            frontiers[rung] = end
        requests += decision.rung == cloud
        unsplit += costs.unsplit.forward(start, end)
        start = end
    rows = frontiers[cloud]
    return Use(requests, rows, flops[cloud], sum(flops[:cloud]), unsplit, rows * costs.row_bytes)


def _exit_head(bundle: Bundle, weights: dict[str, int], index: int, lm_head: int) -> int:
    entry = bundle.manifest.exits[index]
    own = _under(weights, f"exits.{entry.layer}.")
    return own if entry.lm_head == "own" else own + lm_head


def _weights(bundle: Bundle, file: str) -> dict[str, int]:
    """Operations per row of each matrix in a weight file."""
    found = {}
    with safe_open(bundle.weight_file(file), framework="np") as handle:
        for name in handle.keys():  # noqa: SIM118  the handle is no mapping
            shape = handle.get_slice(name).get_shape()
            if len(shape) == 2:
                found[name] = _OPERATIONS_PER_WEIGHT * shape[0] * shape[1]
    return found


def _under(weights: dict[str, int], prefix: str) -> int:
    return sum(count for name, count in weights.items() if name.startswith(prefix))
