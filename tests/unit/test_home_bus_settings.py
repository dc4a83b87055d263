"""The home bus's settings: what can't be meant is refused with the keys and the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.connect import transport_for
from edge_agent.bridge import check_bridge
from ops.listening import check_can_listen
from shared.config import BrokerSection, Settings, describe, load
from shared.errors import ConfigError

ROOT = "antiphon/v1/home/device"


def settings_of(folder: Path, **given: Any) -> Settings:
    return load({f"home_bus.{key}": value for key, value in given.items()}, environ={}, folder=folder)


def test_without_a_host_there_is_no_home_bus(tmp_path: Path) -> None:
    assert not settings_of(tmp_path).home_bus.wanted


@pytest.mark.parametrize(
    ("listen_host", "reached_at"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.0.0.5", "10.0.0.5")],
)
def test_a_hosted_bus_is_reached_on_this_machine(tmp_path: Path, listen_host: str, reached_at: str) -> None:
    bus = settings_of(tmp_path, embedded=True, port=1884, listen_host=listen_host).home_bus
    assert bus.wanted
    assert bus.reached_at == reached_at


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"host": "hub.local", "embedded": True}, ["home_bus.host", "home_bus.embedded"]),
        ({"embedded": True}, ["home_bus and broker", "127.0.0.1:1883", "home_bus.port"]),
        ({"host": "localhost"}, ["home_bus and broker", "--host"]),
        ({"embedded": True, "listen_host": "0.0.0.0"}, ["home_bus and broker"]),
        ({"embedded": True, "port": 1884, "tls": True}, ["home_bus.tls", "home_bus.certfile"]),
        (
            {"embedded": True, "port": 1884, "tls": True, "certfile": "c", "ca_file": "a"},
            ["home_bus.ca_file", "remove"],
        ),
        ({"embedded": True, "port": 1884, "password_file": "p"}, ["home_bus.username"]),
        ({"host": "hub.local", "password_file": "p"}, ["home_bus.password_file", "that broker itself"]),
        ({"host": "hub.local", "acl_file": "a"}, ["home_bus.acl_file", "that broker itself"]),
        ({"host": "hub.local", "ca_file": "ca.pem"}, ["home_bus.ca_file", "home_bus.tls = true"]),
        ({"host": "hub.local", "password": "x"}, ["home_bus.username"]),
        ({"hots": "hub.local"}, ["did you mean home_bus.host?"]),
    ],
)
def test_values_that_do_not_go_together_are_refused(
    tmp_path: Path, given: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as refusal:
        settings_of(tmp_path, **given)
    assert [word for word in words if word not in str(refusal.value)] == []


def test_a_home_without_a_cloud_answers_alone_unless_a_mode_is_set(tmp_path: Path) -> None:
    alone = {"broker.host": "", "home_bus.embedded": True}
    settings = load(alone, environ={}, folder=tmp_path)  # the port is the default broker's: there is none
    assert settings.edge.mode == "standalone"
    (line,) = [line for line in describe(settings) if line.key == "edge.mode"]
    assert (line.value, line.source) == ("standalone", "broker.host is empty")
    wished = load({**alone, "edge.mode": "collaborative"}, environ={}, folder=tmp_path)
    assert wished.edge.mode == "collaborative"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, ["broker.host is empty", "--host", "home_bus.embedded"]),
        (
            {"home_bus.embedded": True, "home_bus.bridge_out": f"{ROOT}/+/state"},
            ["home_bus.bridge_out", "broker.host is empty"],
        ),
        (
            {"home_bus.host": "hub.local", "edge.mode": "exact"},
            ["edge.mode is exact", "broker.host is empty", "standalone"],
        ),
    ],
)
def test_what_needs_a_cloud_is_refused_where_there_is_none(
    tmp_path: Path, given: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as refusal:
        load({"broker.host": "", **given}, environ={}, folder=tmp_path)
    assert [word for word in words if word not in str(refusal.value)] == []


def test_a_bus_that_stands_in_the_default_brokers_way_is_told_how_to_go_without_a_cloud(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match=r"without a cloud has broker\.host = \"\" .*--no-cloud"):
        settings_of(tmp_path, embedded=True)


def test_nobody_connects_to_a_broker_that_is_not_there_by_intention() -> None:
    with pytest.raises(ConfigError, match=r"name one with broker\.host"):
        transport_for(BrokerSection(host=""), "hub")
    with pytest.raises(ConfigError, match=r"broker\.host is empty: give --host"):
        check_can_listen("", 1883, instead="")


def test_the_home_buss_password_is_shown_nowhere(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, host="hub.local", username="hub", password="hunter2")
    assert "hunter2" not in repr(settings) + repr(describe(settings))


@pytest.mark.parametrize(
    ("topic_filter", "words"),
    [
        ("#", ["past this tenant's devices", f"{ROOT}/+/state"]),
        ("antiphon/v1/+/device/+/state", ["past this tenant's devices"]),
        ("antiphon/v1/other/device/+/state", ["past this tenant's devices"]),
        ("antiphon/v1/home/worker/+/status", ["past this tenant's devices"]),
        ("antiphon/v1/home/device", ["past this tenant's devices"]),
        ("$share/g/antiphon/v1/home/device/+/state", ["past this tenant's devices"]),
        (f"{ROOT}/#", ["prompts and answers stay"]),
        (f"{ROOT}/+/+", ["prompts and answers stay"]),
        (f"{ROOT}/panel/#", ["prompts and answers stay"]),
        (f"{ROOT}/panel/prompt", ["prompts and answers stay"]),
        (f"{ROOT}/+/answer", [f"{ROOT}/+/answer", "prompts and answers stay"]),
        (f"{ROOT}/panel/stream/#", ["prompts and answers stay"]),
        (f"{ROOT}/pa+nel/state", ["no topic filter"]),
    ],
)
@pytest.mark.parametrize("way", ["bridge_out", "bridge_in"])
def test_a_bridge_that_is_too_wide_is_refused(
    tmp_path: Path, way: str, topic_filter: str, words: list[str]
) -> None:
    settings = settings_of(tmp_path, host="hub.local", **{way: topic_filter})
    with pytest.raises(ConfigError) as refusal:
        check_bridge(settings)
    assert [word for word in [f"home_bus.{way}", *words] if word not in str(refusal.value)] == []


def test_filters_that_would_carry_a_topic_twice_are_refused(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, host="hub.local", bridge_out=f"{ROOT}/lamp/state, {ROOT}/+/state")
    with pytest.raises(ConfigError, match="carried twice"):
        check_bridge(settings)


def test_a_topic_may_go_both_ways(tmp_path: Path) -> None:
    both = f"{ROOT}/+/state"
    check_bridge(settings_of(tmp_path, host="hub.local", bridge_out=both, bridge_in=f"{both},{ROOT}/a/b/#"))
