"""The file of a fault report that grows: whole at every moment, whenever the bench is stopped."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ops.faults.report import FaultReport
from ops.folders import settle
from shared.errors import ConfigError


class ReportFile:
    """Reads and replaces one file.

    Args:
        path: of the file; its folder exists.

    Raises:
        ConfigError: nothing can be written there, which is better known now than in two hours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Behind a link: the file takes the new one's place, not the link.
        self._place = path.resolve()
        self._fresh = self._place.with_name(self._place.name + ".new")
        self._try()

    def write(self, report: FaultReport) -> None:
        """Let a report take the place of the one before; a bench killed meanwhile leaves one of them.

        Raises:
            ConfigError: the disk refuses it; the report before is still there.
        """
        try:
            self._fresh.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
            settle(self._fresh, self._place)
        except OSError as error:
            raise self._refused(error) from error

    def read(self) -> FaultReport | None:
        """The report, or None where there is no file yet.

        Raises:
            ConfigError: the file holds something else.
        """
        try:
            return msgspec.json.decode(self._place.read_bytes(), type=FaultReport)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{self.path} is no report that a bench of faults can go on with ({error}). "
                "Name another --json FILE, or leave out --resume to begin anew and replace it."
            ) from error

    def _try(self) -> None:
        if self._place.exists() and not self._place.is_file():
            raise ConfigError(f"{self.path} is not a file. Name another --json FILE.")
        try:
            self._fresh.touch()
            self._fresh.unlink()
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"{self.path} can't be written: {error.strerror or error}. Name another --json FILE."
        )
