"""`antiphon doctor`: looks at everything an answer depends on and says the fix for what is wrong."""

from ops.doctor.check import Check, Status
from ops.doctor.rounds import run_checks

__all__ = ["Check", "Status", "run_checks"]
