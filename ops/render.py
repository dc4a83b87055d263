"""How answers look in a terminal: each token in the colour of the rung that answered it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from edge_agent.rungs import FORCED_RUNG

# Edge rungs from shallow to deep, then what is deeper still.
_EDGE_STYLES = ("green", "cyan", "blue")
_CLOUD_STYLE = "magenta"
_DEGRADED = "yellow underline"

# C0 and C1 controls: what a model or a peer wrote must not move the cursor, or retitle the window.
# Half a surrogate pair, which JSON can spell, has no bytes at all.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """Text that a terminal only shows: control characters are left out, all but newline and tab."""
    return _UNPRINTABLE.sub("", text)


def error_line(message: str) -> Text:
    """What went wrong; brackets in it are text, not markup."""
    return Text.assemble(("error:", "bold red"), " ", printable(message))


def rung_style(rung: str, *, degraded: bool = False) -> str:
    """The style of a token."""
    if degraded:
        return _DEGRADED
    if rung == FORCED_RUNG:
        return "dim"
    if rung == "cloud":
        return _CLOUD_STYLE
    number = int(rung.removeprefix("edge-")) if rung.removeprefix("edge-").isdigit() else 1
    return _EDGE_STYLES[min(number, len(_EDGE_STYLES)) - 1]


def token_text(text: str, rung: str, *, degraded: bool = False) -> Text:
    """One token, coloured."""
    return Text(printable(text), style=rung_style(rung, degraded=degraded))


def answer_tokens(tokens: Sequence[Mapping[str, Any]]) -> Text:
    """All tokens of an answer, coloured."""
    line = Text()
    for token in tokens:
        line.append_text(token_text(token["text"], token["rung"], degraded=token["degraded"]))
    return line


def answer_summary(answer: Mapping[str, Any]) -> Text:
    """One line about an answer: tokens by rung, cloud requests, time; and why it is degraded."""
    line = Text()
    for rung, count in sorted(answer["rungs"].items()):
        line.append(printable(f"{rung} {count}"), style=rung_style(rung)).append("  ")
    cloud, timings = answer["cloud"], answer["timings"]
    line.append(f"cloud requests {cloud['requests']}  up {cloud['uplink_bytes']} B  ", style="dim")
    line.append(f"{timings['total_ms']:.0f} ms", style="dim")
    if answer["degraded"]:
        line.append(printable(f"  degraded: {answer['note']}"), style="yellow")
    return line
