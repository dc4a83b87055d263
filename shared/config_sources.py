"""Where settings are written: the command line, the environment and a TOML file."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from shared.errors import ConfigError

PREFIX: Final = "ANTIPHON_"
FILE_VARIABLE: Final = "ANTIPHON_CONFIG"
FILE_NAME: Final = "antiphon.toml"
# A settings file is a page; a larger one is another file by mistake.
_MAX_FILE_BYTES: Final = 1024 * 1024


class Given(NamedTuple):
    """A value as it was written.

    `is_text`: it can only be text there, so `"1884"` may become a number.
    """

    value: object
    source: str
    is_text: bool


def command_line(values: Mapping[str, object], keys: Collection[str]) -> dict[str, Given]:
    """What the command line gave, by `section.key`; None is an option that was left out.

    Raises:
        ConfigError: No such setting.
    """
    given = {key: value for key, value in values.items() if value is not None}
    for key in given:
        _refuse_unknown(key, keys, "the command line", key)
    return {key: Given(value, "command line", is_text=True) for key, value in given.items()}


def environment(environ: Mapping[str, str], keys: Collection[str]) -> dict[str, Given]:
    """What variables such as `ANTIPHON_BROKER__PORT` give.

    Variables of other forms are left alone: a service named antiphon puts ANTIPHON_SERVICE_HOST and
    the like into every container of a Kubernetes namespace. A single underscore for two is a slip.

    Raises:
        ConfigError: No such setting.
    """
    given = {}
    for variable, value in environ.items():
        name = variable.removeprefix(PREFIX)
        if variable in {FILE_VARIABLE, name}:
            continue
        if "__" in name:
            key = name.lower().replace("__", ".", 1)
            _refuse_unknown(key, keys, variable, key)
            given[key] = Given(value, variable, is_text=True)
        elif (key := name.lower().replace("_", ".", 1)) in keys:
            raise ConfigError(f"{variable} is not read: write {_variable(key)}, with two underscores")
    return given


def config_file(path: Path, keys: Collection[str]) -> dict[str, Given]:
    """What a TOML file gives.

    Raises:
        ConfigError: It can't be read, or has a section or key that we don't know.
    """
    given = {}
    for section, table in _read_toml(path).items():
        if not isinstance(table, dict):
            _refuse_unknown(section, keys, str(path), section)
            continue
        for name, value in table.items():
            key = f"{section}.{name}"
            _refuse_unknown(key, keys, str(path), key)
            given[key] = Given(value, str(path), is_text=False)
    return given


def find_file(config: Path | None, environ: Mapping[str, str], folder: Path) -> Path | None:
    """The file to read: the one that was named, or the first of the usual places that exists."""
    named = config or (Path(environ[FILE_VARIABLE]) if environ.get(FILE_VARIABLE) else None)
    if named is not None:
        return named.expanduser()
    home = Path(environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    places = (folder / FILE_NAME, home / "antiphon" / "config.toml")
    return next((place for place in places if place.is_file()), None)


def _read_toml(path: Path) -> dict[str, object]:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ConfigError(f"{path} has over {_MAX_FILE_BYTES} bytes: is this the settings file?")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path} can't be read ({error.strerror}): name a settings file that is there"
        ) from None
    # TOML and UTF-8 errors are ValueErrors; so is a number of more digits than Python converts.
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} is not valid TOML: {error}; quote texts and write [section] lines"
        ) from None


def _refuse_unknown(key: str, keys: Collection[str], source: str, written: str) -> None:
    if key in keys:
        return
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    # Right key, wrong or no section: closer in meaning than in letters.
    same_name = [known for known in keys if known.split(".")[1] == key.rsplit(".", 1)[-1]]
    meant = [*near, *same_name]
    hint = f"did you mean {meant[0]}?" if meant else "`antiphon config show` lists every setting"
    raise ConfigError(f"there is no setting {written} (from {source}): {hint}")


def _variable(key: str) -> str:
    return PREFIX + key.upper().replace(".", "__", 1)
