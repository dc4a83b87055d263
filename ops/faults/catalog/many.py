"""What happens to many edges at once."""

from __future__ import annotations

from functools import partial
from typing import Final

from ops.faults.fleet import reconnect
from ops.faults.run import Fault

EDGES: Final = 200
_NAME: Final = f"{EDGES} edges reconnect at once"

FAULTS = [Fault(_NAME, "fleet", instead=partial(reconnect, edges=EDGES, name=_NAME))]
