"""The bundle: there, whole, and the one it says it is."""

from __future__ import annotations

import asyncio

from ops.doctor.check import Check, fail, ok
from shared.bundles import bundle_path
from shared.config import Settings
from shared.errors import AntiphonError, ConfigError
from shared.model.bundle import Bundle


async def check_bundle(settings: Settings) -> Check:
    """Every file has the digest that the manifest names, and the thresholds fit the exits."""
    try:
        bundle = await asyncio.to_thread(_verified, settings.general.bundle)
        _check_thresholds(bundle, settings)
    except ConfigError as error:
        return fail("bundle", str(error), "name one threshold per exit, or none for the bundle's own")
    except AntiphonError as error:
        return fail("bundle", str(error), "set general.bundle to a whole bundle, or prepare it again")
    stages = f"exits after layers {', '.join(map(str, bundle.partition.exits))} of {bundle.partition.layers}"
    return ok("bundle", f"{bundle.name} ({bundle.kind}), digest {bundle.digest[:12]}, {stages}")


def _verified(name_or_path: str) -> Bundle:
    bundle = Bundle.open(bundle_path(name_or_path))
    bundle.verify()
    return bundle


def _check_thresholds(bundle: Bundle, settings: Settings) -> None:
    given, exits = len(settings.edge.thresholds), len(bundle.partition.exits)
    if given not in {0, exits}:
        raise ConfigError(f"edge.thresholds has {given} values, but {bundle.name} has {exits} exits")
