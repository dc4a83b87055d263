"""`antiphon bench transport`: what a step's round trip costs beside the bare clients' echoes."""

from __future__ import annotations

from ops.cli_context import console
from ops.commands.options import Embedded, JsonFile, MarkdownFile, Quick
from shared.log import setup_logging


def transport(
    quick: Quick = False,
    embedded: Embedded = False,
    json_file: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Round trips of a step with an empty engine, and of bare TCP, aiomqtt and paho with the same bytes."""
    from ops.bench.transport.bench import bench
    from ops.bench.transport.measure import FULL, QUICK
    from ops.event_loop import run

    setup_logging("error")
    with console.status("asking …"):
        report = run(bench(QUICK if quick else FULL, embedded=embedded))
    report.show(console)
    if json_file is not None:
        report.write_json(json_file)
    if markdown is not None:
        report.write_markdown(markdown)
