"""What every bench leaves: a table for people, JSON for machines, and a flat summary of named figures."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, Self

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from ops.provenance import commit, libraries, machine

SIGNIFICANT_DIGITS: Final = 3


class Samples(msgspec.Struct, frozen=True):
    """A figure that was measured several times, and how far it spread."""

    count: int
    median: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Of at least one value.

        Raises:
            ValueError: there is none: the bench measured nothing.
        """
        if not values:
            msg = "no samples: a bench has to measure before it reports"
            raise ValueError(msg)
        return cls(len(values), median(values), min(values), max(values))

    def __str__(self) -> str:
        """`1.23 (1.1–1.4)`; one sample has no spread."""
        if self.count == 1:
            return figure(self.median)
        return f"{figure(self.median)} ({figure(self.minimum)}–{figure(self.maximum)})"


Cell = Samples | float | str | None
"""What stands in a table: figures, plain or with their spread, words, or nothing."""

Row = Mapping[str, Cell]
"""Cells by column; a column that is missing is empty."""


class BenchTable(msgspec.Struct, frozen=True):
    """One table.

    Attributes:
        title: what it shows.
        columns: their heads, with units; the first names the row.
        rows: from top to bottom.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]

    def rich(self) -> Table:
        """For a terminal."""
        table = Table(
            title=self.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False
        )
        for number, column in enumerate(self.columns):
            # Rather a cell on two lines than one cut short: the spread stands after the figure.
            table.add_column(column, justify="right" if number else "left", no_wrap=number == 0)
        for row in self.rows:
            table.add_row(*self._cells(row))
        return table

    def markdown(self) -> str:
        """For a page."""
        rule = ["---", *["--:"] * (len(self.columns) - 1)]
        lines = [list(self.columns), rule, *map(self._cells, self.rows)]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def _cells(self, row: Row) -> list[str]:
        return [cell_text(row.get(column)) for column in self.columns]


class BenchReport(msgspec.Struct, frozen=True):
    """A whole run of a bench.

    Attributes:
        name: the bench's, as on the command line.
        settings: its options, and what else the figures depend on.
        columns, rows: the main table; see `BenchTable`.
        summary: the figures that are looked at over time, flat, by the names that stay.
        notes: how the table is to be read; what is scripted, cut or not comparable.
        more: further tables.
        title: of the main table; empty: the bench's name stands there.
    """

    name: str
    settings: Mapping[str, Any]
    columns: Sequence[str]
    rows: Sequence[Row]
    summary: Mapping[str, float]
    notes: Sequence[str] = ()
    more: Sequence[BenchTable] = ()
    title: str = ""

    @property
    def tables(self) -> list[BenchTable]:
        """The main table and the others."""
        return [BenchTable(self.title or f"bench {self.name}", self.columns, self.rows), *self.more]

    def show(self, console: Console) -> None:
        """Print tables, notes and summary."""
        for table in self.tables:
            console.print(table.rich())
        for note in self.notes:
            console.print(note, style="dim", highlight=False, markup=False)
        for name, value in self.summary.items():
            console.print(f"  {name} {value:g}", highlight=False, markup=False)

    def write_json(self, path: Path) -> None:
        """Write the report, and where it comes from: machine, commit, versions and date."""
        whole = {
            **msgspec.to_builtins(self),
            "machine": machine(),
            "commit": commit(),
            "versions": libraries(),
            "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        }
        path.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n")

    def write_markdown(self, path: Path) -> None:
        """Write the tables for a page; how they are to be read stands behind the main one."""
        main, *more = (f"{table.title}\n\n{table.markdown()}" for table in self.tables)
        notes = ["".join(f"- {note}\n" for note in self.notes)] if self.notes else []
        path.write_text("\n".join([main, *notes, *more]), encoding="utf-8")


def cell_text(cell: Cell) -> str:
    """A cell in words."""
    if cell is None:
        return ""
    return figure(cell) if isinstance(cell, int | float) else str(cell)


def figure(value: float) -> str:
    """A number with the digits that mean something: `0.0123`, `1.23`, `123`, `12345`."""
    if value == 0 or isinstance(value, int):
        return str(int(value))
    if abs(value) >= 10 ** (SIGNIFICANT_DIGITS - 1):
        return f"{value:.0f}"
    return f"{value:.{SIGNIFICANT_DIGITS}g}"
