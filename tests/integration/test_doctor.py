"""The doctor finds what is wrong and says the fix, on real servers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.access import AccessPlan
from broker.mosquitto import render_access
from broker.passwords import render_password_file
from ops.doctor import Check, run_checks
from ops.doctor.bundle import check_bundle
from ops.doctor.clock import check_clock
from ops.doctor.host import check_python, check_room, check_threads, check_torch
from ops.doctor.services import _judged, check_broker, check_redis
from shared.config import BrokerSection, EdgeSection, GeneralSection, Settings, WorkerSection
from tests.conftest import BROKERS, need_binary
from tests.servers import REPOSITORY, EmbeddedServer, MosquittoServer, RedisServer, ServerProcess


def guarded_broker(kind: str, folder: Path) -> ServerProcess:
    """A broker with the generated access rules that knows the device `lamp`."""
    passwords, acl = folder / "passwords", folder / "acl"
    passwords.write_text(render_password_file({"lamp": "right"}))
    acl.write_text(render_access([AccessPlan(tenant="home", edges=("hub",))]))
    for path in (passwords, acl):
        path.chmod(0o600)
    if kind == "embedded":
        return EmbeddedServer(folder, password_file=str(passwords), acl_file=str(acl))
    need_binary("mosquitto", "mosquitto")
    return MosquittoServer(folder, f"allow_anonymous false\npassword_file {passwords}\nacl_file {acl}\n")


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens on and nobody else gets."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def test_a_round_looks_at_everything_and_every_trouble_has_a_fix(closed_port: int) -> None:
    settings = Settings(broker=BrokerSection(port=closed_port), general=GeneralSection(bundle="nowhere"))
    found = await run_checks(settings)
    assert [check.name for check in found] == [
        "python",
        "torch",
        "threads",
        "bundle",
        "room",
        "broker",
        "home bus",
        "redis",
        "clock",
    ]
    assert [check for check in found if (check.status != "ok") != bool(check.fix)] == []


async def test_this_host_serves() -> None:
    settings = Settings()
    found = [await look(settings) for look in (check_python, check_torch, check_threads)]
    assert [check.status for check in found] == ["ok"] * 3


async def test_more_threads_than_cores_is_a_warning() -> None:
    check = await check_threads(Settings(edge=EdgeSection(threads=4096)))
    assert check.status == "warn"
    assert "edge.threads" in check.fix


async def test_a_bundle_that_is_not_there_is_a_failure() -> None:
    check = await check_bundle(Settings(general=GeneralSection(bundle="nowhere")))
    assert check.status == "fail"
    assert "general.bundle" in check.fix


async def test_caches_larger_than_memory_are_a_warning(tmp_path: Path) -> None:
    settings = Settings(
        general=GeneralSection(bundle=str(tmp_path)), worker=WorkerSection(kv_budget_mib=2**31 - 1)
    )
    check = await check_room(settings)
    assert check.status == "warn"
    assert "kv_budget_mib" in check.fix


async def test_a_broker_that_is_there_is_measured(broker_endpoint: ServerProcess) -> None:
    settings = Settings(broker=BrokerSection(host=broker_endpoint.host, port=broker_endpoint.port))
    check = await check_broker(settings)
    assert check.status == "ok", check
    assert "round trip" in check.detail


async def test_a_broker_that_is_absent_is_a_failure_with_the_way_to_start_one(closed_port: int) -> None:
    check = await check_broker(Settings(broker=BrokerSection(port=closed_port)))
    assert check.status == "fail"
    assert "antiphon broker serve" in check.fix


async def test_a_port_that_speaks_no_mqtt_is_a_failure(redis_server: RedisServer) -> None:
    check = await check_broker(Settings(broker=BrokerSection(host=redis_server.host, port=redis_server.port)))
    assert check.status == "fail"
    assert "MQTT" in check.fix


@pytest.mark.parametrize("kind", BROKERS)
async def test_under_access_rules_the_doctor_still_measures(kind: str, tmp_path: Path) -> None:
    with guarded_broker(kind, tmp_path) as server:
        section = BrokerSection(port=server.port, username="lamp", password="right")
        check = await check_broker(Settings(broker=section))
    assert check.status == "ok", check
    assert "ms (QoS 1)" in check.detail


@pytest.mark.parametrize("level", [(), ("--log-level", "info")], ids=["quiet", "asked"])
def test_a_wrong_password_is_a_finding_and_leaves_json_whole(level: tuple[str, ...], tmp_path: Path) -> None:
    """Nothing but the findings is on stdout; the log is silent unless somebody asks for it."""
    with guarded_broker("embedded", tmp_path) as server:
        given = {"host": server.host, "port": server.port, "username": "lamp", "password": "wrong"}
        wishes = [word for key, value in given.items() for word in ("--set", f"broker.{key}={value}")]
        done = subprocess.run(
            [sys.executable, "-m", "ops.cli", *level, *wishes, "doctor", "--json"],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            cwd=tmp_path,
            check=False,
        )
    assert done.returncode == 1
    found = {check["name"]: check for check in json.loads(done.stdout)}
    assert found["broker"]["status"] == "fail"
    assert "Bad user name or password" in found["broker"]["detail"]
    assert "broker.password" in found["broker"]["fix"]
    assert ("broker_unreachable" in done.stderr) == bool(level)
    assert "wrong" not in done.stdout + done.stderr


def test_a_round_trip_far_above_the_networks_is_a_warning_about_nodelay() -> None:
    assert _judged("b:1", 0.001, 0.044).status == "warn"
    assert "set_tcp_nodelay" in _judged("b:1", 0.001, 0.044).fix
    assert _judged("b:1", 0.120, 0.250).status == "ok"
    assert _judged("b:1", 0.001, None).status == "ok"


async def test_redis_is_only_looked_at_where_it_is_configured(redis_server: RedisServer) -> None:
    assert "not configured" in (await check_redis(Settings())).detail
    assert (await check_redis(_with_redis(redis_server.url))).status == "ok"


async def test_a_redis_that_is_absent_is_a_failure_without_its_password(closed_port: int) -> None:
    check = await check_redis(_with_redis(f"redis://:hunter2@127.0.0.1:{closed_port}/0"))
    assert check.status == "fail"
    assert "check that Redis runs" in check.detail
    assert "hunter2" not in repr(check)


async def test_a_redis_url_that_is_none_is_a_failure() -> None:
    check = await check_redis(_with_redis("http://x"))
    assert (check.status, check.fix) == ("fail", "mend worker.redis_url")


async def test_the_clock_is_looked_at() -> None:
    check = await check_clock(Settings())
    assert isinstance(check, Check)
    assert "UTC" in check.detail or "clock" in check.detail


def _with_redis(url: str) -> Settings:
    return Settings(worker=WorkerSection(redis_url=url))
