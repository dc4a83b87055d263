"""`antiphon bench start`: from nothing to the first token, and the memory that it takes."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli_context import console
from ops.commands.options import Embedded, JsonFile, MarkdownFile, Quick
from shared.log import setup_logging

if TYPE_CHECKING:
    from ops.bench.cores import Cores
    from ops.bench.start.measure import StartCase, StartResult

_PROMPT = "turn on the kitchen lights"


def start(
    rounds: Annotated[int, typer.Option(min=1, help="Starts of each bundle.")] = 5,
    quick: Quick = False,
    embedded: Embedded = False,
    json_file: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Time to the first token, cold and warm, and peak memory, of the home model and a larger one."""
    from ops.bench.cores import Cores
    from ops.bench.start.outcome import report_of

    setup_logging("error")
    cores = Cores.choose()
    with tempfile.TemporaryDirectory(prefix="start-") as folder:
        results = asyncio.run(_measure(Path(folder), cores, rounds, quick=quick, embedded=embedded))
        report = report_of(
            results, {"rounds": rounds, "quick": quick, "embedded": embedded, "cores": cores.words}
        )
    report.show(console)
    if json_file is not None:
        report.write_json(json_file)
    if markdown is not None:
        report.write_markdown(markdown)


async def _measure(
    folder: Path, cores: Cores, rounds: int, *, quick: bool, embedded: bool
) -> list[StartResult]:
    from ops.bench.start.measure import measure_start

    results = []
    with console.status("preparing the models …") as status:
        for case in _cases(folder, rounds, quick=quick):
            found = await measure_start(
                case,
                folder / f"{case.name}-run",
                cores,
                embedded=embedded,
                on_round=lambda name, number: status.update(f"{name}, start {number} …"),
            )
            results.append(found)
    return results


def _cases(folder: Path, rounds: int, *, quick: bool) -> Sequence[StartCase]:
    """The packaged home model, and a random one that is large; a smoke run starts a tiny one, once."""
    from ops.bench.random_llama import LLAMA_270M, TINY, random_bundle
    from ops.bench.start.measure import StartCase
    from shared.bundles import bundle_path

    rounds = 1 if quick else rounds
    large = random_bundle(TINY if quick else LLAMA_270M, folder / "large", name="large")
    words = " ".join(f"w{number}" for number in range(5, 21))
    return [
        StartCase("home", bundle_path("home"), _PROMPT, rounds, warm=5),
        StartCase("270m", large.path, words, rounds, warm=5),
    ]
