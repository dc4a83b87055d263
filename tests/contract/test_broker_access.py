"""Users, passwords and access rules: one set of files, the same meaning to both brokers.

What a broker grants says little (Mosquitto grants every filter), so these look at what is delivered.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.access import AccessPlan
from broker.connect import tls_context, transport_for
from broker.mosquitto import Listener, MosquittoSettings, render_access, render_config
from broker.mqtt import MqttTransport
from broker.mqtt_settings import MqttSettings
from broker.passwords import render_password_file
from broker.presence import Presence, read_status
from broker.transport import Incoming
from shared.config import BrokerSection
from shared.errors import ConfigError
from tests.certificates import make_certificates, openssl
from tests.conftest import BROKERS, need_binary
from tests.mqtt_clients import V5, V311, Client
from tests.servers import HOST, ConfiguredMosquitto, EmbeddedServer, ServerProcess, find_binary, free_port
from tests.waiting import eventually

ROOT = "antiphon/v1/home"
USERS = ("hub", "w1", "w2", "lamp", "clock", "ops")
PLANS = (
    AccessPlan(tenant="home", edges=("hub",), workers=("w1", "w2"), watchers=("ops",)),
    AccessPlan(tenant="other", edges=("hub2",), workers=("w9",), devices=False),
)
NOT_AUTHORISED = 0x87


@pytest.fixture(scope="module", params=BROKERS)
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """Each broker with the same password file and ACL file."""
    folder = tmp_path_factory.mktemp("guarded")
    passwords, acl = folder / "passwords", folder / "acl"
    passwords.write_text(render_password_file({user: f"{user}'s secret" for user in USERS}))
    passwords.chmod(0o600)
    acl.write_text(render_access(PLANS))
    acl.chmod(0o600)
    with _broker(request.param, folder, str(passwords), str(acl)) as server:
        yield server


def _broker(kind: str, folder: Path, passwords: str, acl: str) -> ServerProcess:
    if kind == "embedded":
        return EmbeddedServer(folder, password_file=passwords, acl_file=acl)
    need_binary("mosquitto", "mosquitto")
    port = free_port()
    listener = Listener(port=port, address=HOST)
    settings = MosquittoSettings(listeners=(listener,), password_file=passwords, acl_file=acl)
    return ConfiguredMosquitto(folder, render_config(settings), port)


def as_user(server: ServerProcess, user: str, version: int = V5) -> Client:
    return Client(server, version=version, username=user, password=f"{user}'s secret")


def delivered(server: ServerProcess, sender: str, topic: str, receiver: str, topic_filter: str) -> bool:
    """Whether a message of one user reaches another."""
    with as_user(server, receiver) as listening, as_user(server, sender) as speaking:
        listening.subscribe(topic_filter, qos=1)
        speaking.publish(topic, b"x", 1)
        return not listening.silent(0.15)


@pytest.mark.parametrize("version", [V5, V311], ids=["mqtt5", "mqtt311"])
@pytest.mark.parametrize("password", ["wrong", "", None])
def test_a_wrong_password_is_refused(guarded: ServerProcess, version: int, password: str | None) -> None:
    client = Client(guarded, version=version, username="hub", password=password).connect()
    assert client.connack not in (0, None)
    client.close()


def test_an_unknown_user_and_an_anonymous_one_are_refused(guarded: ServerProcess) -> None:
    for name in ("nobody", None):
        client = Client(guarded, username=name, password="x" if name else None).connect()
        assert client.connack != 0
        client.close()


@pytest.mark.parametrize("version", [V5, V311], ids=["mqtt5", "mqtt311"])
def test_the_right_password_lets_in(guarded: ServerProcess, version: int) -> None:
    with as_user(guarded, "hub", version) as client:
        assert client.connack == 0


ALLOWED = {
    "an open reaches a worker": ("hub", "pool/m/open/hub/s1", "w1", f"$share/p/{ROOT}/pool/m/open/+/+"),
    "a step reaches its worker": ("hub", "worker/w1/steps/hub/s1", "w1", f"{ROOT}/worker/w1/steps/+/+"),
    "a reply reaches its edge": (
        "w1",
        "edge/hub/session/s1/reply",
        "hub",
        f"{ROOT}/edge/hub/session/+/reply",
    ),
    "grouped steps reach their worker": ("hub", "worker/w1/steps/hub", "w1", f"{ROOT}/worker/w1/steps/+"),
    "grouped replies reach their edge": ("w1", "edge/hub/replies", "hub", f"{ROOT}/edge/hub/replies"),
    "a worker's status reaches the edge": ("w1", "worker/w1/status", "hub", f"{ROOT}/worker/+/status"),
    "a prompt reaches the edge": ("lamp", "device/lamp/prompt", "hub", f"{ROOT}/device/+/prompt"),
    "an answer reaches its device": ("hub", "device/lamp/answer", "lamp", f"{ROOT}/device/lamp/answer"),
    "an answer reaches a topic of the device's own": (
        "hub",
        "device/lamp/my/own",
        "lamp",
        f"{ROOT}/device/lamp/#",
    ),
    "an edge's status reaches a device": ("hub", "edge/hub/status", "lamp", f"{ROOT}/edge/+/status"),
    "a watcher sees it all": ("hub", "pool/m/open/hub/s1", "ops", f"{ROOT}/#"),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_the_house_needs_is_allowed(guarded: ServerProcess, name: str) -> None:
    sender, topic, receiver, topic_filter = ALLOWED[name]
    assert delivered(guarded, sender, f"{ROOT}/{topic}", receiver, topic_filter)


@pytest.mark.parametrize("user", USERS)
def test_everybody_may_look_for_trouble_with_an_echo_of_their_own(guarded: ServerProcess, user: str) -> None:
    """`antiphon doctor` of any user; nobody else hears or fakes it."""
    with as_user(guarded, user) as client, as_user(guarded, "lamp") as other:
        own = f"{ROOT}/doctor/{client.client_id}"
        other.subscribe(own)
        client.subscribe(own, qos=1)
        other.publish(own, b"fake", 1)
        client.publish(own, b"echo", 1)
        assert client.next().payload == b"echo"
        assert other.silent(0.05)


FORBIDDEN = {
    "an edge can't open for another": ("hub", "pool/m/open/hub2/s1", "ops", f"{ROOT}/#"),
    "an edge can't step for another": ("hub", "worker/w1/steps/hub2/s1", "ops", f"{ROOT}/#"),
    "an edge can't group steps for another": ("hub", "worker/w1/steps/hub2", "ops", f"{ROOT}/#"),
    "an edge can't group replies": ("hub", "edge/hub/replies", "ops", f"{ROOT}/#"),
    "an edge can't reply": ("hub", "edge/hub/session/s1/reply", "ops", f"{ROOT}/#"),
    "a device can't open": ("lamp", "pool/m/open/lamp/s1", "ops", f"{ROOT}/#"),
    "a device can't reply": ("lamp", "edge/hub/session/s1/reply", "ops", f"{ROOT}/#"),
    "a device can't prompt as another": ("lamp", "device/clock/prompt", "ops", f"{ROOT}/#"),
    "a device can't claim to be a worker": ("lamp", "worker/lamp/status", "ops", f"{ROOT}/#"),
    "a worker can't claim to be another": ("w1", "worker/w2/status", "ops", f"{ROOT}/#"),
    "a worker can't prompt": ("w1", "device/lamp/prompt", "ops", f"{ROOT}/#"),
    "a watcher can't write": ("ops", "device/lamp/prompt", "hub", f"{ROOT}/device/+/prompt"),
    "a worker can't read another's steps": (
        "hub",
        "worker/w1/steps/hub/s1",
        "w2",
        f"{ROOT}/worker/w1/steps/+/+",
    ),
    "a worker can't read another's grouped steps": (
        "hub",
        "worker/w1/steps/hub",
        "w2",
        f"{ROOT}/worker/w1/steps/+",
    ),
    "a worker can't read grouped replies": ("w1", "edge/hub/replies", "w2", f"{ROOT}/edge/hub/replies"),
    "a worker can't read prompts": ("lamp", "device/lamp/prompt", "w1", f"{ROOT}/device/+/prompt"),
    "a device can't read another's answers": (
        "hub",
        "device/clock/answer",
        "lamp",
        f"{ROOT}/device/clock/answer",
    ),
    "a device can't read replies": (
        "w1",
        "edge/hub/session/s1/reply",
        "lamp",
        f"{ROOT}/edge/hub/session/+/reply",
    ),
    "a device can't read opens through a share": (
        "hub",
        "pool/m/open/hub/s1",
        "lamp",
        f"$share/thief/{ROOT}/pool/m/open/+/+",
    ),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_the_house_must_not_have_is_not_delivered(guarded: ServerProcess, name: str) -> None:
    sender, topic, receiver, topic_filter = FORBIDDEN[name]
    assert not delivered(guarded, sender, f"{ROOT}/{topic}", receiver, topic_filter)


def test_other_tenants_are_out_of_reach(guarded: ServerProcess) -> None:
    with as_user(guarded, "hub") as client:
        assert client.publish("antiphon/v1/other/pool/m/open/hub/s1", b"", 1) == NOT_AUTHORISED


def test_a_forbidden_will_is_not_delivered(guarded: ServerProcess) -> None:
    """Ours refuses the connection already."""
    will = (f"{ROOT}/edge/hub/status", b"x", 0, False)
    with as_user(guarded, "ops") as watcher:
        watcher.subscribe(f"{ROOT}/#")
        client = Client(guarded, username="lamp", password="lamp's secret", will=will).connect()
        assert client.connack == NOT_AUTHORISED or isinstance(guarded, ConfiguredMosquitto)
        client.die()
        assert watcher.silent()


def test_a_filter_beyond_the_rules_is_refused(tmp_path: Path) -> None:
    """Ours only: Mosquitto grants it and drops the forbidden deliveries."""
    (tmp_path / "acl").write_text(render_access(PLANS))
    server = EmbeddedServer(tmp_path, acl_file=str(tmp_path / "acl"))
    with server, Client(server, username="lamp", password="x") as client:
        assert client.subscribe("#", f"{ROOT}/device/lamp/#") == [NOT_AUTHORISED, 0]


def test_a_name_of_wildcards_gets_nobody_s_topics(tmp_path: Path) -> None:
    """A user called + must not turn the pattern device/%u/# into device/+/#."""
    (tmp_path / "passwords").write_text(render_password_file({"+": "x"}))
    (tmp_path / "acl").write_text(render_access(PLANS))
    files = {"password_file": str(tmp_path / "passwords"), "acl_file": str(tmp_path / "acl")}
    with EmbeddedServer(tmp_path, **files) as server, Client(server, username="+", password="x") as client:
        assert client.subscribe(f"{ROOT}/device/+/prompt") == [NOT_AUTHORISED]


def test_mosquitto_passwd_s_files_are_read(tmp_path: Path) -> None:
    need_binary("mosquitto_passwd", "mosquitto")
    path = tmp_path / "passwords"
    path.touch(mode=0o600)
    tool = find_binary("mosquitto_passwd") or ""
    subprocess.run([tool, "-b", str(path), "hub", "hub's secret"], check=True, capture_output=True)
    with EmbeddedServer(tmp_path, password_file=str(path)) as server, as_user(server, "hub") as client:
        assert client.connack == 0


# --- TLS -------------------------------------------------------------------------------------------------


@pytest.fixture(params=BROKERS)
def tls_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    """Each broker behind TLS, its users known by their certificates."""
    make_certificates(tmp_path)
    (tmp_path / "acl").write_text(render_access(PLANS))
    tls = {
        "certfile": str(tmp_path / "server.pem"),
        "keyfile": str(tmp_path / "server.key"),
        "cafile": str(tmp_path / "ca.pem"),
        "require_certificate": True,
        "use_identity_as_username": True,
    }
    if request.param == "embedded":
        server: ServerProcess = EmbeddedServer(tmp_path / "run", acl_file=str(tmp_path / "acl"), **tls)
    else:
        need_binary("mosquitto", "mosquitto")
        port = free_port()
        listener = Listener(port=port, address=HOST, **tls)
        settings = MosquittoSettings(listeners=(listener,), acl_file=str(tmp_path / "acl"))
        server = ConfiguredMosquitto(tmp_path / "run", render_config(settings), port)
    with server:
        yield server


async def test_a_certificate_is_the_user(tls_broker: ServerProcess, tmp_path: Path) -> None:
    context = tls_context(*(str(tmp_path / name) for name in ("ca.pem", "client.pem", "client.key")))
    settings = MqttSettings(host=tls_broker.host, port=tls_broker.port, client_id="hub", tls=context)
    async with MqttTransport(settings) as link:
        assert await link.wait_connected(10), link.trouble
        link.subscribe(f"{ROOT}/edge/hub/session/+/reply", lambda _: None)
        await link.subscribed(f"{ROOT}/edge/hub/session/+/reply", 5)
        await link.publish(f"{ROOT}/edge/hub/status", b"x", qos=1, retain=True, timeout_s=5)


async def test_an_edge_joins_by_its_settings(tls_broker: ServerProcess, tmp_path: Path) -> None:
    """What an edge does with `broker.certfile` and `broker.keyfile`: status, devices, replies."""
    section = BrokerSection(
        host=tls_broker.host,
        port=tls_broker.port,
        tls=True,
        ca_file=str(tmp_path / "ca.pem"),
        certfile=str(tmp_path / "client.pem"),
        keyfile=str(tmp_path / "client.key"),
    )
    heard: list[Incoming] = []
    reply = f"{ROOT}/edge/hub/session/s1/reply"
    async with transport_for(section, "home.edge.hub", Presence(f"{ROOT}/edge/hub/status")) as link:
        link.subscribe(f"{ROOT}/edge/hub/session/+/reply", heard.append, qos=1)
        link.subscribe(f"{ROOT}/edge/+/status", heard.append)
        assert await link.wait_connected(10), link.trouble
        await eventually(lambda: heard)
        await link.publish(f"{ROOT}/device/lamp/answer", b"{}", qos=1, timeout_s=5)
        assert not link.subscriptions.answer_for(reply)
    assert read_status(heard[0].payload).online


def test_a_key_with_a_passphrase_is_refused_instead_of_asked_for(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    secret = ("-aes256", "-passout", "pass:hunter2")
    openssl(tmp_path, "ec", "-in", "client.key", "-out", "locked.key", *secret)
    with pytest.raises(ConfigError, match=r"locked\.key"):
        tls_context(*(str(tmp_path / name) for name in ("ca.pem", "client.pem", "locked.key")))


async def test_without_a_certificate_nobody_gets_in(tls_broker: ServerProcess, tmp_path: Path) -> None:
    context = tls_context(str(tmp_path / "ca.pem"))
    settings = MqttSettings(host=tls_broker.host, port=tls_broker.port, client_id="hub", tls=context)
    async with MqttTransport(settings) as link:
        assert not await link.wait_connected(1)
        assert link.trouble


async def test_a_broker_of_another_authority_is_not_trusted(tls_broker: ServerProcess) -> None:
    settings = MqttSettings(host=tls_broker.host, port=tls_broker.port, client_id="hub", tls=tls_context())
    async with MqttTransport(settings) as link:
        assert not await link.wait_connected(1)
        assert "certificate" in link.trouble.lower()
