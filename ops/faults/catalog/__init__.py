"""Everything that can be made to fail, by name; each file is one target."""

from __future__ import annotations

from collections.abc import Sequence

from ops.faults.catalog import broker, clock, edge, links, many, store, upgrade, worker
from ops.faults.run import Fault
from shared.errors import ConfigError

_PARTS = (broker, store, worker, edge, links, clock, upgrade, many)

FAULTS: dict[str, Fault] = {fault.name: fault for part in _PARTS for fault in part.FAULTS}


def faults_named(names: Sequence[str]) -> list[Fault]:
    """The faults whose names begin with any of `names`, or all.

    Raises:
        ConfigError: a name is nobody's.
    """
    for name in names:
        if not any(known.startswith(name) for known in FAULTS):
            raise ConfigError(f"there is no fault {name!r}; there are: {', '.join(FAULTS)}")
    return [
        fault for known, fault in FAULTS.items() if not names or any(known.startswith(each) for each in names)
    ]
