"""Faults in random order: each one before any comes again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from ops.faults.catalog import faults_named
from ops.faults.rig import Plan
from ops.faults.run import Fault
from shared.errors import ConfigError


def faults_for(plan: Plan, names: Sequence[str] = ()) -> list[Fault]:
    """The faults that can strike a running installation of this plan.

    Args:
        plan: of the installation.
        names: only those whose names begin with one of these.

    Raises:
        ConfigError: none is left.
    """
    faults = [fault for fault in faults_named(names) if _fits(fault, plan)]
    if not faults:
        raise ConfigError(
            f"none of the faults {', '.join(names) or 'there are'} can strike a soak on this machine"
        )
    return faults


def lasting(faults: Sequence[Fault]) -> list[Fault]:
    """Those that leave broker, Redis and edge their processes; all of them where none does."""
    return [fault for fault in faults if not fault.ends] or list(faults)


def deal(faults: Sequence[Fault], rng: Random) -> Iterator[Fault]:
    """Faults without end."""
    while True:
        yield from rng.sample(faults, len(faults))


def _fits(fault: Fault, plan: Plan) -> bool:
    needs = fault.plan
    return (
        fault.instead is None  # its run asks nobody
        and not fault.absent()
        and needs.workers <= plan.workers
        and needs.redis <= plan.redis
        and needs.clock <= plan.clock
    )
