"""Structured logs on stderr: JSON for machines, colours for a person at a terminal.

What a person said and what opens a door never gets into a log: the keys of `HIDDEN_KEYS` are dropped
wherever they stand, and raw bytes are replaced by their length.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, Final, TextIO

import structlog
from structlog.contextvars import bound_contextvars
from structlog.typing import EventDict, Processor, WrappedLogger

HIDDEN_KEYS: Final = frozenset({"prompt", "text", "password", "payload", "states"})
LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def setup_logging(level: str = "info", *, stream: TextIO | None = None, pretty: bool | None = None) -> None:
    """Send this process's logs, ours and libraries', to one stream; calling it again replaces it.

    Args:
        level: One of `LEVELS`; libraries below us speak from `warning` on.
        stream: Where to; stderr when left out, so that stdout stays the answer's.
        pretty: For people or for machines; asks the stream when left out.
    """
    stream = stream or sys.stderr
    renderer = _renderer(stream.isatty() if pretty is None else pretty)
    structlog.configure(
        processors=[*_SHARED, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: _Lines(stream),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(
        level=max(LEVELS[level], logging.WARNING), handlers=[_library_handler(stream, renderer)], force=True
    )


def context(
    *,
    session: str | None = None,
    epoch: int | None = None,
    worker: str | None = None,
    edge: str | None = None,
) -> Any:
    """A `with` block in which every log line of this task names what is given."""
    given = {"session": session, "epoch": epoch, "worker": worker, "edge": edge}
    return bound_contextvars(**{name: value for name, value in given.items() if value is not None})


def drop_hidden(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Processor: remove hidden keys at any depth and the content of raw bytes."""
    return {key: _shown(value) for key, value in event.items() if key not in HIDDEN_KEYS}


_SHARED: Final[tuple[Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    drop_hidden,
    structlog.processors.format_exc_info,
)


class _Lines:
    """Writes a line of log; a stream that is closed or full costs the line, never the work it speaks of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # a broken pipe, a full disk; a stream that was closed
            return

    debug = info = warning = error = critical = exception = log = msg


def _renderer(pretty: bool) -> Processor:
    if pretty:
        # The default prints local variables, and a local may be somebody's prompt.
        return structlog.dev.ConsoleRenderer(colors=True, exception_formatter=structlog.dev.plain_traceback)
    return structlog.processors.JSONRenderer(default=str)


def _library_handler(stream: TextIO, renderer: Processor) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    return handler


def _shown(value: object) -> object:
    match value:
        case Mapping():
            return {key: _shown(each) for key, each in value.items() if key not in HIDDEN_KEYS}
        case list() | tuple():
            return [_shown(each) for each in value]
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
    return value
