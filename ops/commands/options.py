"""Options that several commands have, declared once: the same word means the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the report here.")]
MarkdownFile = Annotated[Path | None, typer.Option("--markdown", help="Write the tables here, for a page.")]
Quick = Annotated[bool, typer.Option("--quick", help="A small run, to see that it works.")]
Embedded = Annotated[
    bool, typer.Option("--embedded", help="Use the embedded broker even where Mosquitto is installed.")
]
FaultNames = Annotated[
    list[str] | None, typer.Option(help="Only faults whose name begins so. Repeatable.", metavar="NAME")
]
Mode = Annotated[str | None, typer.Option(help="collaborative, standalone or exact.")]
Codec = Annotated[
    str | None,
    typer.Option(
        help="How hidden states travel: fp32, fp16, bf16, int8, int4, bf16+zstd, int8+zstd, or auto: by the "
        "link's rate and what was calibrated. Without one: edge.codec, and fp32 in mode exact."
    ),
]
Deadline = Annotated[float, typer.Option(min=0.5, help="How long a token may wait for the cloud.")]
