"""Heavy imports and Python's garbage collector: half a million objects, none of which is ever garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_for_good() -> Iterator[None]:
    """Do heavy imports inside: nobody looks for garbage meanwhile, nor ever again at what is there then.

    Collections that look at torch and transformers as they grow take a fifth of the time that importing
    them does; one that came later would stop a worker and all its sessions for a third of a second. And
    pages that no collection touches stay shared between a fork server and its children.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
