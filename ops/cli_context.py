"""What the commands share: consoles, and settings resolved from the command line down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console

from shared.config import Settings, load
from shared.errors import ConfigError

# Answers go to stdout, everything about them to stderr: `antiphon ask … --json | jq` just works.
console = Console()
console_err = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class CliOptions:
    """The options before the command."""

    config: Path | None = None
    assignments: tuple[str, ...] = ()
    log_level: str | None = None

    def settings(self, cli: Mapping[str, object] | None = None) -> Settings:
        """All settings; `cli` holds the command's own options, None where one was not given.

        Raises:
            ConfigError: a setting can't be followed.
        """
        given: dict[str, object] = {"general.log_level": self.log_level}
        for assignment in self.assignments:
            key, equals, value = assignment.partition("=")
            if not equals:
                msg = f"--set {assignment}: write it as KEY=VALUE, for example --set edge.codec=int8"
                raise ConfigError(msg)
            given[key.strip()] = value
        return load({**given, **{k: v for k, v in (cli or {}).items() if v is not None}}, config=self.config)


def cli_options(context: typer.Context) -> CliOptions:
    """The options before the command."""
    found = context.find_object(CliOptions)
    return found if found is not None else CliOptions()
