"""Settings: who wins, what is refused, and what is never shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from edge_agent.codec_choice import AUTO
from shared.config import EdgeSection, Settings, describe, load
from shared.errors import ConfigError
from shared.tensors.codec import CODECS
from shared.tensors.compression import COMPRESSED


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "work"


def resolved(
    folder: Path,
    toml: str = "",
    environ: Mapping[str, str] | None = None,
    cli: Mapping[str, object] | None = None,
    config: Path | None = None,
) -> Settings:
    folder.mkdir(exist_ok=True)
    if toml:
        (folder / "antiphon.toml").write_text(toml)
    surroundings = {"XDG_CONFIG_HOME": str(folder / "config"), **(environ or {})}
    return load(cli, config=config, environ=surroundings, folder=folder)


def test_without_anything_given_every_value_is_its_default(folder: Path) -> None:
    settings = resolved(folder)
    assert (settings.broker.host, settings.broker.port, settings.edge.codec) == ("127.0.0.1", 1883, "fp16")
    assert {line.source for line in describe(settings)} == {"default"}


@pytest.mark.parametrize(
    ("toml", "environ", "cli", "port", "source"),
    [
        ("[broker]\nport = 2000", {}, {}, 2000, "antiphon.toml"),
        ("[broker]\nport = 2000", {"ANTIPHON_BROKER__PORT": "3000"}, {}, 3000, "ANTIPHON_BROKER__PORT"),
        ("", {"ANTIPHON_BROKER__PORT": "3000"}, {"broker.port": 4000}, 4000, "command line"),
        ("[broker]\nport = 2000", {}, {"broker.port": None}, 2000, "antiphon.toml"),
    ],
)
def test_command_line_beats_environment_beats_file(
    folder: Path, toml: str, environ: dict[str, str], cli: dict[str, object], port: int, source: str
) -> None:
    settings = resolved(folder, toml, environ, cli)
    assert settings.broker.port == port
    assert settings.sources["broker.port"].endswith(source)


def test_a_named_file_is_read_instead_of_the_usual_ones(folder: Path, tmp_path: Path) -> None:
    named = tmp_path / "other.toml"
    named.write_text("[edge]\nid = 'attic'")
    settings = resolved(folder, "[edge]\nid = 'hall'\n[broker]\nport = 1", config=named)
    assert (settings.edge.id, settings.broker.port, settings.file) == ("attic", 1883, named)


def test_the_file_may_be_named_in_the_environment(folder: Path, tmp_path: Path) -> None:
    named = tmp_path / "other.toml"
    named.write_text("[edge]\nid = 'attic'")
    assert resolved(folder, environ={"ANTIPHON_CONFIG": str(named)}).edge.id == "attic"


def test_the_users_own_file_is_read_where_the_folder_has_none(folder: Path) -> None:
    place = folder / "config" / "antiphon"
    place.mkdir(parents=True)
    (place / "config.toml").write_text("[edge]\nid = 'cellar'")
    assert resolved(folder).edge.id == "cellar"


def test_lists_come_from_toml_and_as_words_between_commas(folder: Path) -> None:
    assert resolved(folder, "[edge]\nthresholds = [0.5, 1]").edge.thresholds == (0.5, 1.0)
    assert resolved(folder, environ={"ANTIPHON_EDGE__THRESHOLDS": "0.8, 0.9"}).edge.thresholds == (0.8, 0.9)
    assert resolved(folder, environ={"ANTIPHON_EDGE__THRESHOLDS": ""}).edge.thresholds == ()


def test_a_password_of_digits_stays_a_text(folder: Path) -> None:
    environ = {"ANTIPHON_BROKER__PASSWORD": "0123", "ANTIPHON_BROKER__USERNAME": "hub"}
    assert resolved(folder, environ=environ).broker.password == "0123"


@pytest.mark.parametrize(
    ("toml", "environ", "cli", "words"),
    [
        ("[broker]\nprot = 1", {}, {}, ["broker.prot", "antiphon.toml", "did you mean broker.port?"]),
        ("[brokr]\nport = 1", {}, {}, ["brokr.port", "did you mean broker.port?"]),
        ("redis_url = 'x'", {}, {}, ["redis_url", "did you mean worker.redis_url?"]),
        ("[sky]\nblue = 1", {}, {}, ["sky.blue", "config show"]),
        ("", {"ANTIPHON_BROKER__HOTS": "x"}, {}, ["ANTIPHON_BROKER__HOTS", "did you mean broker.host?"]),
        ("", {"ANTIPHON_BROKER_HOST": "x"}, {}, ["write ANTIPHON_BROKER__HOST"]),
        ("", {"ANTIPHON_WORKER_REDIS_URL": "x"}, {}, ["write ANTIPHON_WORKER__REDIS_URL"]),
        ("", {}, {"edge.modes": "x"}, ["edge.modes", "command line", "did you mean edge.mode?"]),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(
    folder: Path, toml: str, environ: dict[str, str], cli: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as refusal:
        resolved(folder, toml, environ, cli)
    assert [word for word in words if word not in str(refusal.value)] == []


def test_variables_that_container_platforms_set_are_left_alone(folder: Path) -> None:
    environ = {
        "ANTIPHON_SERVICE_HOST": "10.0.0.1",
        "ANTIPHON_PORT_1883_TCP": "tcp://10.0.0.1:1883",
        "PATH": "/bin",
    }
    assert resolved(folder, environ=environ).sources == {}


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[broker]\nport = '1883'", ["broker.port", "'1883'", "a port from 1 to 65535"]),
        ("[broker]\nport = 0", ["broker.port", "a port from 1 to 65535"]),
        ("[broker]\nport = 1.5", ["broker.port"]),
        ("[broker]\ntls = 1", ["broker.tls", "true or false"]),
        ("[broker]\nhost = ''", ["broker.host is empty", "home_bus.embedded"]),
        ("[general]\ntenant = 'a/b'", ["general.tenant", "letters, digits"]),
        ("[general]\nlog_level = 'loud'", ["general.log_level", "one of debug, info, warning, error"]),
        ("[edge]\nmode = 'exactly'", ["edge.mode", "one of collaborative, standalone"]),
        ("[edge]\nstep_deadline_s = inf", ["edge.step_deadline_s", "seconds"]),
        ("[edge]\nstep_deadline_s = nan", ["edge.step_deadline_s", "seconds"]),
        ("[edge]\nstep_deadline_s = 0", ["edge.step_deadline_s", "seconds"]),
        ("[edge]\nthresholds = [0.5, 1.5]", ["edge.thresholds", "one per exit"]),
        ("[edge]\nthresholds = [nan]", ["edge.thresholds"]),
        ("[edge]\nthresholds = 0.5", ["edge.thresholds"]),
        ("[worker]\nmax_sessions = -1", ["worker.max_sessions", "from 1 on"]),
        ("[worker]\nmax_sessions = true", ["worker.max_sessions"]),
        ("[broker]\nca_file = 'ca.pem'", ["broker.ca_file", "broker.tls = true"]),
        ("[broker]\ncertfile = 'hub.pem'", ["broker.certfile", "broker.tls = true"]),
        ("[broker]\nkeyfile = 'hub.key'", ["broker.keyfile", "broker.tls = true"]),
        ("[broker]\ntls = true\nkeyfile = 'hub.key'", ["broker.keyfile", "broker.certfile"]),
        ("[broker]\npassword = 'x'", ["broker.username"]),
        ("port = ", ["not valid TOML"]),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_key_source_and_fix(
    folder: Path, toml: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as refusal:
        resolved(folder, toml)
    assert [word for word in words if word not in str(refusal.value)] == []


def test_a_setting_is_given_also_when_it_is_given_its_default(folder: Path) -> None:
    settings = resolved(folder, "[edge]\ncodec = 'fp16'")
    assert settings.is_given("edge.codec")
    assert not settings.is_given("edge.mode")


def test_a_bad_variable_names_itself(folder: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("'many' (from ANTIPHON_EDGE__THREADS)")):
        resolved(folder, environ={"ANTIPHON_EDGE__THREADS": "many"})


def test_a_named_file_that_is_absent_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml can't be read"):
        resolved(folder, config=Path("nowhere.toml"))


def test_a_file_too_large_for_settings_is_refused(folder: Path, tmp_path: Path) -> None:
    big = tmp_path / "big.toml"
    big.write_text("#" * 1_100_000)
    with pytest.raises(ConfigError, match="settings file"):
        resolved(folder, config=big)


def test_secrets_are_in_no_repr_no_listing_and_no_error(folder: Path) -> None:
    toml = "[broker]\nusername = 'hub'\npassword = 'hunter2'\n[worker]\nredis_url = 'redis://:hunter2@h'"
    settings = resolved(folder, toml)
    shown = {line.key: line.value for line in describe(settings)}
    assert "hunter2" not in repr(settings) + repr(shown)
    assert shown["broker.password"] == shown["worker.redis_url"] == "(hidden)"
    with pytest.raises(ConfigError) as refusal:
        resolved(folder, "[broker]\npassword = ['hunter2']")
    assert "hunter2" not in str(refusal.value)


def test_every_setting_is_listed_as_it_would_be_written(folder: Path) -> None:
    lines = {line.key: line.value for line in describe(resolved(folder, "[edge]\nthresholds = [0.5, 0.25]"))}
    assert lines["edge.thresholds"] == "0.5, 0.25"
    assert lines["broker.tls"] == "false"
    assert lines["worker.redis_url"] == ""


def test_each_start_makes_its_own_worker_id() -> None:
    assert Settings().worker.id != Settings().worker.id


def test_the_codecs_that_may_be_chosen_are_those_there_are() -> None:
    names = get_args(get_type_hints(EdgeSection)["codec"])
    assert set(names) == {*CODECS, *COMPRESSED, AUTO}
