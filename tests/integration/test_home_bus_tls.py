"""A hosted home bus behind TLS: real clients by their authority, the edge by the certificate at hand."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broker.connect import transport_for
from edge_agent.home_bus import client_section, home_transport, hosted
from shared.config import HomeBusSection, Settings, load
from shared.errors import ConfigError
from tests.certificates import make_certificates, sign
from tests.mqtt_clients import V5, V311, Client
from tests.servers import free_port

WAIT_S = 10.0
STATUS = "antiphon/v1/home/edge/+/status"


def settings_of(folder: Path, **given: Any) -> Settings:
    tls = {"tls": True, "certfile": str(folder / "server.pem"), "keyfile": str(folder / "server.key")}
    bus = {"embedded": True, "port": free_port(), **tls, **given}
    return load({f"home_bus.{key}": value for key, value in bus.items()}, environ={})


def client_of(bus: HomeBusSection, ca_file: Path, version: int = V5) -> Client:
    client = Client(SimpleNamespace(host="localhost", port=bus.port), version=version)  # type: ignore[arg-type]
    client.paho.tls_set(str(ca_file))
    return client


@pytest.mark.parametrize("names", ["DNS:localhost", "DNS:hub.local,DNS:localhost"])
@pytest.mark.parametrize("version", [V5, V311], ids=["mqtt5", "mqtt311"])
async def test_a_device_that_trusts_the_authority_meets_the_edge(
    tmp_path: Path, version: int, names: str
) -> None:
    """The edge itself connects to 127.0.0.1, a name that the certificate need not have."""
    make_certificates(tmp_path)
    sign(tmp_path, "server", names=names)
    settings = settings_of(tmp_path)
    async with hosted(settings.home_bus), home_transport(settings) as edge:
        assert await edge.wait_connected(WAIT_S), edge.trouble
        device = client_of(settings.home_bus, tmp_path / "ca.pem", version)
        await asyncio.to_thread(device.connect)
        await asyncio.to_thread(device.subscribe, STATUS)
        status = await asyncio.to_thread(device.next)
        await asyncio.to_thread(device.close)
    assert b'"online":true' in status.payload


async def test_who_does_not_trust_it_or_speaks_without_tls_gets_nowhere(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    (tmp_path / "other").mkdir()
    make_certificates(tmp_path / "other")
    settings = settings_of(tmp_path)
    bus = settings.home_bus
    async with hosted(bus):
        trust = ssl.create_default_context(cafile=str(tmp_path / "other" / "ca.pem"))
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("localhost", bus.port, ssl=trust)
        plain = load({"broker.port": bus.port}, environ={}).broker
        async with transport_for(plain, "plain") as link:
            assert not await link.wait_connected(0.5)


async def test_a_client_on_the_hub_trusts_that_one_certificate_and_no_other(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    (tmp_path / "other").mkdir()
    make_certificates(tmp_path / "other")
    settings = settings_of(tmp_path)
    async with hosted(settings.home_bus):
        own = client_section(settings.home_bus)
        false = client_section(settings_of(tmp_path / "other", port=own.port).home_bus)
        async with transport_for(own, "own") as right, transport_for(false, "false") as wrong:
            assert await right.wait_connected(WAIT_S), right.trouble
            assert not await wrong.wait_connected(0.5)
            assert "certificate" in wrong.trouble.lower()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"certfile": "nowhere.pem"}, ["nowhere.pem", "No such file"]),
        ({"keyfile": "nowhere.key"}, ["nowhere.key", "No such file"]),
        ({"keyfile": "client.key"}, ["client.key", "mismatch"]),
        ({"certfile": "ca.key"}, ["ca.key", "can't use the broker's TLS files"]),
        ({"certfile": "expired"}, ["server.pem", "expired", "renew"]),
    ],
)
async def test_a_certificate_that_cannot_be_used_is_refused_at_the_start(
    tmp_path: Path, given: dict[str, str], words: list[str]
) -> None:
    make_certificates(tmp_path)
    if given.get("certfile") == "expired":
        sign(tmp_path, "server", days=-1)
        given = {}
    settings = settings_of(tmp_path, **{key: str(tmp_path / name) for key, name in given.items()})
    with pytest.raises(ConfigError) as refusal:
        async with hosted(settings.home_bus):
            pass
    assert [word for word in words if word not in str(refusal.value)] == []
