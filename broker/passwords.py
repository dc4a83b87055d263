"""Password files in Mosquitto's own format, so that one file serves both brokers.

A line reads ``user:$7$iterations$salt$hash`` with PBKDF2-HMAC-SHA512 and base64, as
``mosquitto_passwd`` of Mosquitto 2 writes it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from pathlib import Path

from shared.errors import ConfigError

_ITERATIONS = 10_000
"""About five milliseconds: a connecting client waits for it, and so does everybody else meanwhile."""

_MAX_ITERATIONS = 1_000_000
_SALT_BYTES = 12
_HASH_BYTES = 64


def hash_password(password: bytes, *, salt: bytes | None = None, iterations: int = _ITERATIONS) -> str:
    """What stands behind the colon in a password file."""
    salt = os.urandom(_SALT_BYTES) if salt is None else salt
    digest = hashlib.pbkdf2_hmac("sha512", password, salt, iterations, _HASH_BYTES)
    return f"$7${iterations}${b64encode(salt).decode()}${b64encode(digest).decode()}"


def verify_password(password: bytes, hashed: str) -> bool:
    """Whether a password is the one that was hashed; False for a hash of another kind."""
    try:
        empty, kind, iterations_text, salt_text, digest_text = hashed.split("$")
        iterations, salt, digest = int(iterations_text), b64decode(salt_text), b64decode(digest_text)
    except (ValueError, Base64Error):
        return False
    if empty or kind != "7" or not 0 < iterations <= _MAX_ITERATIONS or not digest:
        return False
    return hmac.compare_digest(hashlib.pbkdf2_hmac("sha512", password, salt, iterations, len(digest)), digest)


def render_password_file(passwords: Mapping[str, str]) -> str:
    """A password file's text from plain passwords by user name.

    Raises:
        ConfigError: a name that the format can't hold.
    """
    for user in passwords:
        if not user or ":" in user or "\n" in user:
            raise ConfigError(
                f"user name {user!r} can't stand in a password file; leave out ':' and newlines"
            )
    return "".join(f"{user}:{hash_password(password.encode())}\n" for user, password in passwords.items())


def load_password_file(path: str | Path) -> dict[str, str]:
    """Hashes by user name.

    Raises:
        ConfigError: the file can't be read, or a line is not ``user:$7$…``.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read password file {path}: {error}") from None
    hashes: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        user, colon, hashed = line.strip().partition(":")
        if not line.strip() or line.startswith("#"):
            continue
        if not colon or not hashed.startswith("$7$"):
            raise ConfigError(f"{path}:{number} is not 'user:$7$...'; write it with mosquitto_passwd")
        hashes[user] = hashed
    return hashes
