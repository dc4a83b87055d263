"""One setting's value: from what was written to what is typed, or a sentence that says what is wrong."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from shared.config_sources import Given
from shared.errors import ConfigError


def converted(key: str, given: Given, hint: Any, *, secret: bool) -> Any:
    """The value as the setting's type.

    Args:
        key: `section.key`, for the message.
        given: What was written and where.
        hint: The type; its `Meta(description=…)` completes "it must be …".
        secret: Keeps the value out of the message.

    Raises:
        ConfigError: It can't be that type.
    """
    value = given.value
    if isinstance(value, str) and _is_list(hint):
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        result = msgspec.convert(value, hint, strict=not given.is_text)
    # A variable's bytes that are no UTF-8 come as characters that can't be encoded.
    except (msgspec.ValidationError, UnicodeEncodeError):
        result = None
    if result is None or _has_nan(result):
        shown = "" if secret else f" {given.value!r:.80}"
        raise ConfigError(
            f"{key} can't be{shown} (from {given.source}): it must be {_wanted(hint)}"
        ) from None
    return result


def _is_list(hint: Any) -> bool:
    inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return get_origin(inner) is tuple


def _has_nan(value: object) -> bool:
    """Not a number passes every comparison of a bound."""
    return any(each != each for each in (value if isinstance(value, tuple) else (value,)))  # noqa: PLR0124


def _wanted(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        described = [each.description for each in get_args(hint)[1:] if isinstance(each, msgspec.Meta)]
        return str(described[-1])
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(get_args(hint))
    return {bool: "true or false", str: "a text"}[hint]
