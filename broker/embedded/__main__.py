"""Run the embedded broker as a process of its own: ``python -m broker.embedded --port 1883``."""

from __future__ import annotations

import argparse
import asyncio
import sys

import msgspec
import structlog

from broker.embedded.server import EmbeddedBroker, serve
from broker.embedded.settings import BrokerSettings
from shared.errors import AntiphonError


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m broker.embedded", description=__doc__)
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes a free one")
    parser.add_argument("--settings", default="{}", metavar="JSON", help="further broker settings")
    given = parser.parse_args(arguments)
    # stdout is for the one line that says where it listens.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        settings = msgspec.json.decode(given.settings, type=BrokerSettings)
    except msgspec.MsgspecError as error:
        parser.error(f"--settings: {error}")
    places = {
        name: value for name, value in (("host", given.host), ("port", given.port)) if value is not None
    }
    try:
        asyncio.run(serve(msgspec.structs.replace(settings, **places), _announce))
    except AntiphonError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _announce(broker: EmbeddedBroker) -> None:
    sys.stdout.write(f"listening on {broker.host}:{broker.port}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
