"""Steps that travel squeezed over a lossy link, or as they are, lead to one text."""

from __future__ import annotations

from typing import Any

import pytest

from ops.faults.proxy import Weather
from tests.integration.conftest import Install, Reference
from tests.integration.far import far_away, outputs
from tests.servers import ServerProcess

# Of the short ones a step squeezes to nothing smaller and goes as it is; the long one's prompt gets shorter.
PROMPTS = ["x", "good night", "is anybody home? " * 20]
NEW_TOKENS = 16
LOSSY = Weather(0.01, loss=0.03, copies=2, reorder=0.1)
PATIENT = {"edge__step_deadline_s": 2.0, "edge__open_deadline_s": 2.0, "edge__max_attempts": 20}


@pytest.mark.parametrize("rows", ["bf16", "int8"])
async def test_a_lossy_link_and_squeezed_steps_change_no_text(
    install: Install, tiny: Reference, embedded_server: ServerProcess, rows: str
):
    pytest.importorskip("zstandard")
    path = tiny.bundle.path
    async with install(embedded_server, path, workers=1, edge__mode="exact", edge__codec=rows) as near:
        plain = await near.ask_all(PROMPTS, lookahead=0, max_new_tokens=NEW_TOKENS)
    given = {"edge__mode": "exact", "edge__codec": f"{rows}+zstd", **PATIENT}
    async with far_away(install, embedded_server, path, LOSSY, **given) as home:
        squeezed = await home.ask_all(PROMPTS, lookahead=8, max_new_tokens=NEW_TOKENS)
    assert not any(answer["degraded"] for answer in (*plain, *squeezed))
    assert outputs(squeezed) == outputs(plain)
    assert bytes_per_row(squeezed[-1]) < bytes_per_row(plain[-1])


def bytes_per_row(answer: dict[str, Any]) -> float:
    """What a position cost on the line, repeats counted on both sides."""
    cloud = answer["cloud"]
    return float(cloud["uplink_bytes"] / cloud["uploaded_tokens"])
