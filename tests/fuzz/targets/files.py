"""Files and variables: a bundle's manifest, settings as TOML and in the environment, a broker's rules."""

from __future__ import annotations

import json
import tempfile
from os.path import normpath
from pathlib import Path
from typing import Any, get_type_hints

from broker.acl import AclRule, parse_acl, render_acl
from shared.config import _SECTIONS, _fields
from shared.config_sources import Given, config_file, environment
from shared.config_values import converted
from shared.errors import AntiphonError
from shared.model.manifest import MANIFEST_FILE, read_manifest
from tests.fuzz.target import Target, same

# One folder for the life of the process; on Linux in memory, since it is written a million times.
_MEMORY = Path("/dev/shm")
_KEPT = tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None, prefix="antiphon-fuzz-")
FOLDER = Path(_KEPT.name)
HINTS = {
    key: get_type_hints(_SECTIONS[section], include_extras=True)[entry.name]
    for key, (section, entry) in _fields().items()
}
SECRETS = {key for key, (_, entry) in _fields().items() if entry.metadata.get("secret")}


def manifest(data: bytes) -> None:
    """A manifest comes back, names its digests, and names no file outside its bundle."""
    (FOLDER / MANIFEST_FILE).write_bytes(data)
    read = read_manifest(FOLDER)
    if len(read.digest) != 64:
        raise AssertionError(f"digest {read.digest!r}")
    for name in read.files:
        if not Path(normpath(FOLDER / name)).is_relative_to(FOLDER):
            raise AssertionError(f"{name!r} leaves the bundle")
    read.write(FOLDER)
    same(lambda: read_manifest(FOLDER), read)


def _manifest(**changes: Any) -> bytes:
    file = {"size_bytes": 1, "sha256": "ab"}
    names = ("edge.safetensors", "cloud.safetensors", "exits.safetensors", "tokenizer/t.json")
    exits = [{"layer": 1}, {"layer": 2, "head": "lora", "rank": 4}]
    whole: dict[str, Any] = {
        "format_version": 1,
        "name": "m",
        "kind": "home",
        "family": "qwen3",
        "config": {"hidden_size": 8, "vocab_size": 9},
        "partition": {"layers": 4, "exits": [1, 2], "split": 2},
        "exits": exits,
        "dtype": "float32",
        "tied_head": True,
        "max_positions": 64,
        "eos_token_ids": [1],
        "files": dict.fromkeys(names, file),
    }
    return json.dumps(whole | changes, separators=(",", ":")).encode()


def _manifests() -> list[bytes]:
    nested = b'{"format_version":1,"a":' + b"[" * 2000
    names = ("edge.safetensors", "cloud.safetensors", "exits.safetensors")
    files = {name: {"size_bytes": 1, "sha256": "ab"} for name in (*names, "../x", "a\0b")}
    hostile = [_manifest(files=files), _manifest(config={}), _manifest(partition={"layers": 1})]
    return [_manifest(), nested, b'{"format_version":1,"\xff":1}', b'{"format_version":2}', *hostile]


def config(data: bytes) -> None:
    """A settings file is read whole or refused whole."""
    file = FOLDER / "antiphon.toml"
    file.write_bytes(data)
    _convert(config_file(file, tuple(HINTS)))


def _convert(given: dict[str, Given]) -> None:
    for key, value in given.items():
        converted(key, value, HINTS[key], secret=key in SECRETS)


def _configs() -> list[bytes]:
    good = b'[general]\ntenant = "home"\n[broker]\nport = 1884\ntls = true\n[edge]\nthresholds = [0.9, 1.0]\n'
    nested, long = b"a = " + b"[" * 1500, b"[broker]\nport = " + b"9" * 5000
    values = [b"[broker]\nport = 0", b"[edge]\ndeadline_s = nan", b"[general]\ntenant = 'a/b'"]
    return [good, nested, long, b"a = 1979-02-31", b"\xff", b"edge = 1", b"[worker]\nthread = 2", *values]


def variables(data: bytes) -> None:
    """Variables, one per line: they are read or refused, and secrets are in no refusal."""
    lines = (line.partition("=") for line in data.decode(errors="surrogateescape").split("\n"))
    environ = {name: value for name, _, value in lines}
    try:
        _convert(environment(environ, tuple(HINTS)))
    except AntiphonError as error:
        secret = environ.get("ANTIPHON_BROKER__PASSWORD", "")
        if len(secret) > 12 and secret in str(error):
            raise AssertionError("a refusal quotes a password") from error
        raise


def _environments() -> list[bytes]:
    good = (
        b"ANTIPHON_BROKER__PORT=1884\nANTIPHON_EDGE__THRESHOLDS=0.9, 1\nANTIPHON_SERVICE_HOST=x\nHOME=/root"
    )
    slips = [b"ANTIPHON_BROKER_PORT=1", b"ANTIPHON_BROKER__PORTS=1", b"ANTIPHON___=", b"ANTIPHON_EDGE__=1"]
    secret = b"ANTIPHON_BROKER__PASSWORD=hunter2hunter2"
    huge = b"ANTIPHON_BROKER__PORT=" + b"9" * 500
    return [good, secret, huge, *slips, b"ANTIPHON_GENERAL__TENANT=\xff"]


def acl(data: bytes) -> None:
    """Rules come back, each user's in their order."""
    text = data.decode(errors="replace")
    rules = sorted(parse_acl(text), key=_whose)
    same(lambda: sorted(parse_acl(render_acl(rules)), key=_whose), rules)


def _whose(rule: AclRule) -> tuple[bool, bool, str]:
    return rule.is_pattern, rule.user is not None, rule.user or ""


def _acls() -> list[bytes]:
    good = b"# rules\ntopic read a/#\nuser hub\ntopic x/+\nuser\tw 1\ntopic deny z\npattern read d/%u/#"
    return [
        good,
        b"topic",
        b"user",
        b"topic read",
        b"topic a/#/b",
        b"allow a",
        b"user a\ntopic readwrite read x",
    ]


TARGETS = [
    Target("files.manifest", manifest, _manifests, max_bytes=2048),
    Target("files.config", config, _configs, share=0.2),
    Target("files.acl", acl, _acls),
    Target("files.environment", variables, _environments),
]
