"""Ids that appear in topics: tenants, edges, sessions, workers, devices, pools and models."""

from __future__ import annotations

import re
import secrets

from shared.errors import TopicError

# 64 characters keep the longest topic (five ids) far below MQTT's 65,535 bytes and Redis keys short;
# the alphabet leaves out everything MQTT gives a meaning: / + # $ and control characters.
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# \Z, not $: that would let a trailing newline through.
ID_PATTERN = r"^[A-Za-z0-9_.-]{1,64}\Z"


def check_id(value: str, what: str) -> str:
    """Return `value` when it is a valid id.

    Raises:
        TopicError: not 1–64 of letters, digits, `_`, `.`, `-` (not recoverable: choose another id).
    """
    if not _ID.fullmatch(value):
        msg = f"{what} {value[:80]!r} is not a valid id: use 1 to 64 letters, digits, '_', '.' or '-'"
        raise TopicError(msg)
    return value


def new_id(prefix: str = "") -> str:
    """A fresh random id of 64 bits, for example `s-3f9c0a7be1d2c455`."""
    return f"{prefix}{secrets.token_hex(8)}"
