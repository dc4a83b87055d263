"""The forward before the first session."""

from __future__ import annotations

from pathlib import Path

import torch

from shared.model.bundle import Bundle
from shared.model.loading import load_cloud, load_edge
from shared.model.stage import Segment
from shared.model.warm_up import warm_up


def test_every_layer_and_every_head_has_run(bundle_folder: Path) -> None:
    bundle = Bundle.open(bundle_folder)
    edge, cloud = load_edge(bundle), load_cloud(bundle)
    layers = [layer for stage in (*edge.stages, cloud.stage) for layer in stage._layers]
    heads = [head.parts.norm for head in (*edge.heads, cloud.head)]
    ran = []
    for module in (*layers, *heads):
        module.register_forward_hook(lambda module, *_: ran.append(id(module)))

    warm_up(edge.stages, edge.heads)
    warm_up([cloud.stage], [cloud.head])

    assert set(ran) >= {id(layer) for layer in layers}
    assert set(ran) >= {id(head) for head in heads}


def test_a_session_that_comes_after_it_is_as_if_it_had_not_been(bundle_folder: Path) -> None:
    fresh, warmed = load_edge(Bundle.open(bundle_folder)), load_edge(Bundle.open(bundle_folder))
    warm_up(warmed.stages, warmed.heads)
    ids = torch.arange(3, 9)
    told = [
        model.stages[0].forward(ids, [Segment(model.stages[0].new_cache(), len(ids))])
        for model in (fresh, warmed)
    ]
    assert torch.equal(*told)
