"""What one look of the doctor found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at, in a word or two.
        status: `warn` still answers, only slower or later; `fail` does not.
        detail: What was found.
        fix: What to do; empty when nothing is wrong.
    """

    name: str
    status: Status
    detail: str
    fix: str = ""


def ok(name: str, detail: str) -> Check:
    """Nothing to do."""
    return Check(name, "ok", detail)


def warn(name: str, detail: str, fix: str) -> Check:
    """Works, but not as well as it could."""
    return Check(name, "warn", detail, fix)


def fail(name: str, detail: str, fix: str) -> Check:
    """Does not work."""
    return Check(name, "fail", detail, fix)
