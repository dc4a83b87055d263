"""A bench's rows and promises as they are made: kept at once, so that a later run can make the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

from ops.faults.catalog import FAULTS
from ops.faults.report import FaultReport, FaultRow
from ops.faults.report_file import ReportFile
from ops.faults.run import Fault
from shared.errors import ConfigError


class Series:
    """A report that grows.

    Args:
        report: what there is already.
        file: that has to hold it from the first new row on; None: none has.

    Attributes:
        report: the rows and promises so far.
    """

    def __init__(self, report: FaultReport, file: ReportFile | None = None) -> None:
        self.report = report
        self._file = file

    @classmethod
    def resumed(cls, begun: FaultReport, file: ReportFile) -> Self:
        """Go on with what the file holds; without a file, from the beginning.

        Args:
            begun: of a bench that would begin now.
            file: of an earlier run.

        Raises:
            ConfigError: that run's rows and this one's don't belong in one table, or the file can't be read.
        """
        found = file.read()
        if found is None:
            return cls(begun, file)
        if differences := list(_differences(found, begun)):
            raise ConfigError(
                f"{file.path} holds another bench: {'; '.join(differences)}. Run it as it was begun, "
                "name another --json FILE, or leave out --resume to begin anew and replace it."
            )
        return cls(begun.holding(found.rows, found.must_show), file)

    def missing(self, faults: Sequence[Fault]) -> list[Fault]:
        """Those without a row, and those that were skipped and can be made by now."""
        return [fault for fault in faults if not self._has(fault)]

    def add(self, row: FaultRow) -> None:
        """Keep a row, in the place of an older one of its fault.

        Raises:
            ConfigError: the file can't be written.
        """
        rows = [each for each in self.report.rows if each.fault != row.fault]
        self._keep(self.report.holding([*rows, row], self.report.must_show))

    def promise(self, name: str, figures: dict[str, Any]) -> None:
        """Keep a promise's figures, with the commit that made them.

        Raises:
            ConfigError: the file can't be written.
        """
        made = {name: {**figures, "commit": self.report.commit}}
        self._keep(self.report.holding(self.report.rows, {**self.report.must_show, **made}))

    def _has(self, fault: Fault) -> bool:
        row = next((each for each in self.report.rows if each.fault == fault.name), None)
        return row is not None and (not row.skipped or bool(fault.absent()))

    def _keep(self, report: FaultReport) -> None:
        if self._file is not None:
            self._file.write(report)
        self.report = report


def _differences(there: FaultReport, here: FaultReport) -> Iterator[str]:
    """What a report says of all its rows, and would not be true of them together."""
    for part in ("settings", "versions", "machine"):
        one, other = getattr(there, part), getattr(here, part)
        for name in sorted({*one, *other}):
            if one.get(name) != other.get(name):
                yield f"{name} is {one.get(name)} there and {other.get(name)} here"
    for row in there.rows:
        if row.fault not in FAULTS:
            yield f"{row.fault!r} is no fault here"
