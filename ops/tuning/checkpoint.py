"""A run's state on disk, whole at every moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Self

import msgspec
import torch

from ops.folders import settle
from ops.tuning.pieces import Position
from ops.tuning.plan import Plan
from shared.errors import ConfigError

_FILE: Final = "tuning.pt"


class Progress(msgspec.Struct, frozen=True):
    """How far a run is.

    Attributes:
        step: batches learned.
        tokens: read so far.
        position: where the next batch begins.
        elapsed_s: time spent learning, over all sessions of the run.
        losses: exit layer → loss per row of the last step.
    """

    step: int = 0
    tokens: int = 0
    position: Position = Position()
    elapsed_s: float = 0.0
    losses: dict[int, float] = {}


class Checkpoint:
    """The one checkpoint of a run's folder.

    Args:
        folder: the run's; made if it is not there.
        plan: the run's.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / _FILE
        self._plan = plan

    def save(self, progress: Progress, weights: dict[str, Any], optimizer: dict[str, Any]) -> None:
        """Replace the checkpoint; a run killed meanwhile keeps the one before."""
        state = {
            "plan": msgspec.json.encode(self._plan).decode(),
            "progress": msgspec.json.encode(progress).decode(),
            "weights": weights,
            "optimizer": optimizer,
            "rng": torch.get_rng_state(),
        }
        fresh = self.path.with_name(_FILE + ".new")
        torch.save(state, fresh)
        settle(fresh, self.path)

    def load(self) -> Saved | None:
        """What was saved, or None if the run is new.

        Raises:
            ConfigError: the folder holds a run of another plan, or what can't be read.
        """
        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, weights_only=True, map_location="cpu")
            plan = msgspec.json.decode(state["plan"], type=Plan)
        except Exception as error:  # torch raises what its pickle reader finds
            raise ConfigError(f"{self.path} can't be read ({error}). Remove it to start anew.") from error
        if (setting := self._plan.difference(plan)) is not None:
            raise ConfigError(
                f"{self.path.parent} holds a run with {_other(setting, plan, self._plan)}. "
                "Remove it to start anew, or name another --run."
            )
        return Saved.read(state)

    def remove(self) -> None:
        """Forget the run, whose result is elsewhere."""
        self.path.unlink(missing_ok=True)


def _other(setting: str, there: Plan, here: Plan) -> str:
    if setting in ("digest", "exits_sha256"):
        return "other weights: the bundle has changed since"
    return f"another {setting}: {getattr(there, setting)} there, {getattr(here, setting)} here"


class Saved(msgspec.Struct):
    """What a checkpoint holds."""

    progress: Progress
    weights: dict[str, Any]
    optimizer: dict[str, Any]

    @classmethod
    def read(cls, state: dict[str, Any]) -> Self:
        """Take a loaded state apart and set torch's random numbers back."""
        torch.set_rng_state(state["rng"])
        progress = msgspec.json.decode(state["progress"], type=Progress)
        return cls(progress, state["weights"], state["optimizer"])
