"""Typed settings: each value resolved command line > environment > file > default, with its source.

    environment   ANTIPHON_BROKER__PORT=1884     prefix, section, two underscores, key
    file          [broker]                       --config FILE, or $ANTIPHON_CONFIG, or antiphon.toml
                  port = 1884                    here, or ~/.config/antiphon/config.toml

Units are in the names. Secrets are never in a repr, and `describe` masks them.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, NamedTuple, get_type_hints

from msgspec import Meta

from shared.config_home_bus import check_home_bus, mode_without_cloud
from shared.config_sources import Given, command_line, config_file, environment, find_file
from shared.config_values import converted
from shared.errors import ConfigError
from shared.wire.ids import ID_PATTERN

Id = Annotated[str, Meta(pattern=ID_PATTERN, description="1 to 64 letters, digits, '_', '.' or '-'")]
Text = Annotated[str, Meta(min_length=1, description="a text that is not empty")]
Port = Annotated[int, Meta(ge=1, le=65535, description="a port from 1 to 65535")]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1, description="a whole number from 1 on")]
# A day: longer than anybody waits, and it keeps infinity out.
Seconds = Annotated[float, Meta(gt=0, le=86_400, description="a number of seconds above 0")]
Budget = Annotated[float, Meta(ge=0, le=86_400, description="a number of seconds from 0 on")]
Window = Annotated[int, Meta(ge=0, le=256, description="a whole number from 0 to 256")]
Share = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
# The names of shared/tensors, which needs torch, and `auto`.
CodecSetting = Literal["fp32", "fp16", "bf16", "int8", "int4", "bf16+zstd", "int8+zstd", "auto"]
# The names of shared/model/precision.py, which needs torch.
Weights = Literal["float32", "bfloat16", "int8", "int4"]
Filters = Annotated[tuple[Text, ...], Meta(description="topic filters, each a text")]
Shares = Annotated[tuple[Share, ...], Meta(description="numbers from 0 to 1, one per exit")]


def _secret(default: str = "") -> Any:
    return field(default=default, repr=False, metadata={"secret": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralSection:
    """What every part of a home's installation agrees on.

    Attributes:
        tenant: Whose installation it is; the first level of every topic and key.
        log_level: From which level on events are logged.
        bundle: Folder of a prepared model, or `home` for the packaged one.
    """

    tenant: Id = "home"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    bundle: Text = "home"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSection:
    """Where the MQTT broker is and who we are to it.

    Attributes:
        host: Name or address; empty: there is no cloud, and a home's own bus (`home_bus`) is the only one.
        port: TCP port, 8883 by custom with TLS.
        username: Empty: connect without one.
        password: Goes with `username`.
        tls: Encrypt, and check the broker's certificate.
        ca_file: PEM file of the authority to trust; empty: the system's.
        certfile: PEM file of our own certificate, where the broker asks for one; its common name may be
            the user name there.
        keyfile: PEM file of its key; empty: `certfile` holds it too.
    """

    host: str = "127.0.0.1"
    port: Port = 1883
    username: str = ""
    password: str = _secret()
    tls: bool = False
    ca_file: str = ""
    certfile: str = ""
    keyfile: str = ""

    @property
    def certificate_has_its_name(self) -> bool:
        """Whether the broker's certificate must bear the name that we reach it by."""
        return True


# Addresses that mean every interface of their family, with the family's loopback.
_EVERYWHERE: Final = MappingProxyType({"0.0.0.0": "127.0.0.1", "::": "::1"})  # noqa: S104  compared, not bound


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeBusSection(BrokerSection):
    """The home's own broker: devices there are answered whether or not the cloud's can be reached.

    What `broker` has means the same here, except for `certfile` and `keyfile` of a bus that the edge hosts:
    they are the bus's own.

    Attributes:
        host: Name or address; empty: devices speak at the cloud's broker alone.
        embedded: The edge hosts the bus itself, at `listen_host` and `port`.
        listen_host: Address that the embedded bus listens on.
        password_file: Who may connect to the embedded bus, as mosquitto_passwd writes it; `username` and
            `password` are then the edge's own. Empty: everybody may.
        acl_file: Access rules of the embedded bus in Mosquitto's format; empty: none.
        bridge_out: Filters of device topics whose messages also go to the cloud's broker.
        bridge_in: Filters of device topics whose messages also come from there.
    """

    host: str = ""
    embedded: bool = False
    listen_host: Text = "127.0.0.1"
    password_file: str = ""
    acl_file: str = ""
    bridge_out: Filters = ()
    bridge_in: Filters = ()

    @property
    def certificate_has_its_name(self) -> bool:
        """Not where the edge hosts it: it trusts that one certificate, whatever name devices use."""
        return not self.embedded

    @property
    def wanted(self) -> bool:
        """Whether there is a home bus at all."""
        return bool(self.host) or self.embedded

    @property
    def reached_at(self) -> str:
        """Where this machine finds it: what listens everywhere is found on loopback."""
        if not self.embedded:
            return self.host
        return _EVERYWHERE.get(self.listen_host, self.listen_host)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSection:
    """The edge agent: how it answers and how long it waits for the cloud.

    Attributes:
        id: The edge's id in topics; unique in its tenant.
        mode: `standalone` never asks the cloud, and is the default where there is none; `exact` has it
            confirm every token.
        lookahead: How many tokens may be drafted while the cloud is asked; 0 waits for each answer. The text
            is the same.
        upload: When states go up: `lazy` with the first question that needs them, `eager` as soon as they are
            there, `auto` eagerly if answers of late have mostly asked.
        latency_budget_s: How long an answer may wait for the cloud in all; 0: each token `deadline_s`.
        thresholds: Confidence above which each exit is sure, 1 is never; empty: the bundle's.
        codec: How hidden states are compressed; `auto` chooses for each session, by the link's rate and by
            what was calibrated of the bundle. `+zstd` needs the package zstandard on both sides. In mode
            `exact` they travel in fp32, unless `mode` and a codec are both set here.
        deadline_s: How long a token may wait for the cloud before the edge says its own; long contexts have
            more.
        step_deadline_s: How long a step may take before another worker is asked. More than a worker's
            `max_queue_ms`.
        max_attempts: How often a token is tried before the edge says its own; so many that `deadline_s`
            alone bounds it.
        open_deadline_s: How long an open may take before another worker is asked. Seven of them fit into
            `deadline_s` behind a step, so that a silent worker among others degrades hardly an answer.
        max_new_tokens: Longest answer.
        home: YAML file that describes the home; empty: the demo home.
        threads: Torch threads.
        weights: What the layers' weights are kept in; int8 and int4 are smaller and faster, and now and then
            another token.
    """

    id: Id = "hub"
    mode: Literal["collaborative", "standalone", "exact"] = "collaborative"
    lookahead: Window = 16
    upload: Literal["auto", "eager", "lazy"] = "auto"
    latency_budget_s: Budget = 0.0
    thresholds: Shares = ()
    codec: CodecSetting = "fp16"
    deadline_s: Seconds = 3.0
    step_deadline_s: Seconds = 0.6
    max_attempts: Count = 100
    open_deadline_s: Seconds = 0.375
    max_new_tokens: Count = 256
    home: str = ""
    threads: Count = 1
    weights: Weights = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSection:
    """A cloud worker: its place in the pool and its bounds. A pool of N workers takes on N times as much.

    Attributes:
        id: The worker's id in topics; a new one for each start unless it is given.
        pool: Workers of one pool share the sessions of one bundle.
        device: Where the model runs; `auto` is CUDA where there is one, with weights in bfloat16 unless
            `weights` is set.
        threads: Torch threads.
        weights: What the layers' weights are kept in, as at the edge.
        max_sessions: Sessions held at once.
        batch_tokens: Rows in one forward.
        kv_budget_mib: Memory of all KV caches; the longest session alone must fit.
        session_ttl_s: How long an idle session is kept, here and in Redis.
        max_context_tokens: Longest session.
        max_queue_ms: Work waiting past which no new session is taken.
        max_sessions_per_edge: Sessions of one edge held at once.
        steps_per_s_per_edge: Messages that one edge may send, twice as many in a burst.
        bytes_per_s_per_edge: Bytes of those messages.
        steps_per_s_per_tenant: Messages that all edges together may send to this worker.
        bytes_per_s_per_tenant: Bytes of those messages.
        redis_url: `redis://[user:password@]host:port/0`, or `redis+cluster://…`; empty: logs stay in this
            process.
    """

    id: Id = field(default_factory=lambda: f"w-{secrets.token_hex(4)}")
    pool: Id = "pool"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count = 1
    weights: Weights = "float32"
    max_sessions: Count = 256
    batch_tokens: Count = 2048
    kv_budget_mib: Count = 1024
    session_ttl_s: Seconds = 600.0
    max_context_tokens: Count = 4096
    max_queue_ms: Count = 500
    max_sessions_per_edge: Count = 64
    steps_per_s_per_edge: Count = 2000
    bytes_per_s_per_edge: Count = 32 << 20
    steps_per_s_per_tenant: Count = 100_000
    bytes_per_s_per_tenant: Count = 1 << 30
    redis_url: str = _secret()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, and where each one that is not a default came from.

    Attributes:
        sources: `section.key` to the name of its source.
        file: The file that was read, if there was one.
    """

    general: GeneralSection = field(default_factory=GeneralSection)
    broker: BrokerSection = field(default_factory=BrokerSection)
    home_bus: HomeBusSection = field(default_factory=HomeBusSection)
    edge: EdgeSection = field(default_factory=EdgeSection)
    worker: WorkerSection = field(default_factory=WorkerSection)
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)
    file: Path | None = None

    def is_given(self, key: str) -> bool:
        """Whether somebody set `section.key`, be it to what is its default."""
        return key in self.sources


class SettingLine(NamedTuple):
    """One setting as it is shown to people."""

    key: str
    value: str
    source: str


_SECTIONS: Final[Mapping[str, type[Any]]] = MappingProxyType(
    {
        "general": GeneralSection,
        "broker": BrokerSection,
        "home_bus": HomeBusSection,
        "edge": EdgeSection,
        "worker": WorkerSection,
    }
)


def load(
    cli: Mapping[str, object] | None = None,
    *,
    config: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    folder: Path | None = None,
) -> Settings:
    """Resolve every setting.

    Args:
        cli: `section.key` to what the command line gave; None counts as not given.
        config: The file of `--config`; it has to exist.
        environ: The process environment.
        folder: Where `antiphon.toml` is looked for; the working directory when left out.

    Raises:
        ConfigError: An unknown key, a value that can't be, or values that don't go together; it names
            the key, where it came from and the fix.
    """
    keys = tuple(_fields())
    file = find_file(config, environ, folder or Path.cwd())
    given = {
        **(config_file(file, keys) if file else {}),
        **environment(environ, keys),
        **command_line(cli or {}, keys),
    }
    sections = {name: _section(name, kind, given) for name, kind in _SECTIONS.items()}
    settings = Settings(**sections, sources={key: each.source for key, each in given.items()}, file=file)
    _check_together(settings)
    return mode_without_cloud(settings)


def describe(settings: Settings) -> list[SettingLine]:
    """Every setting with its value and source, for `antiphon config show`; secrets masked."""
    return [
        SettingLine(
            key, _shown(getattr(getattr(settings, section), entry.name), entry), _source(settings, key)
        )
        for key, (section, entry) in _fields().items()
    ]


def _fields() -> dict[str, tuple[str, Field[Any]]]:
    return {
        f"{section}.{entry.name}": (section, entry)
        for section, kind in _SECTIONS.items()
        for entry in fields(kind)
    }


def _section(name: str, kind: type[Any], given: Mapping[str, Given]) -> Any:
    hints = get_type_hints(kind, include_extras=True)
    values = {}
    for entry in fields(kind):
        key = f"{name}.{entry.name}"
        if key in given:
            secret = bool(entry.metadata.get("secret"))
            values[entry.name] = converted(key, given[key], hints[entry.name], secret=secret)
    return kind(**values)


def _check_together(settings: Settings) -> None:
    _check_connection("broker", settings.broker)
    _check_connection("home_bus", settings.home_bus)
    check_home_bus(settings)


def _check_connection(section: str, broker: BrokerSection) -> None:
    for name in ("ca_file", "certfile", "keyfile"):
        if getattr(broker, name) and not broker.tls:
            raise ConfigError(
                f"{section}.{name} is given but {section}.tls is off, so nothing would be encrypted: "
                f"set {section}.tls = true or remove {section}.{name}"
            )
    if broker.keyfile and not broker.certfile:
        raise ConfigError(f"{section}.keyfile is given without {section}.certfile: give both or neither")
    if broker.password and not broker.username:
        raise ConfigError(f"{section}.password is given without {section}.username: give both or neither")


def _shown(value: object, entry: Field[Any]) -> str:
    if entry.metadata.get("secret"):
        return "(hidden)" if value else ""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _source(settings: Settings, key: str) -> str:
    return settings.sources.get(key, "default")
