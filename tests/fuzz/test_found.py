"""What fuzzing found, each as a refusal in our own words."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from broker.embedded.decoding import decode
from broker.embedded.packets import MQTT_311
from broker.embedded.reasons import PacketError
from broker.presence import read_status
from edge_agent.home.home import parse_home
from edge_agent.request import MAX_REQUEST_BYTES, decode_request, request_id_of
from shared.config import load
from shared.context.layout import read_append, read_claim
from shared.errors import BundleError, CodecError, ConfigError, HomeError, PromptError, WireError
from shared.model.manifest import MANIFEST_FILE, read_manifest

DEEP = b"[" * 100_000


@pytest.mark.parametrize("payload", [b'{"a":' + DEEP[:1000], b'{"\xff":1}', b'{"online":true,"birth":-1}'])
def test_a_status_that_is_nested_or_no_text_is_the_senders_fault(payload: bytes) -> None:
    """It arrives in the handler of every edge of the tenant."""
    with pytest.raises(WireError, match="no status"):
        read_status(payload)


@pytest.mark.parametrize("raw", [b'{"format_version":1,"a":' + DEEP, b'{"format_version":1,"\xff":1}'])
def test_a_manifest_that_is_nested_or_no_text_is_malformed(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / MANIFEST_FILE).write_bytes(raw)
    with pytest.raises(BundleError, match="malformed"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", [b"a = " + DEEP, b"[broker]\nport = " + b"9" * 5000, b"a = 2025-02-31"])
def test_a_settings_file_that_breaks_pythons_reader_is_not_valid(text: bytes, tmp_path: Path) -> None:
    file = tmp_path / "antiphon.toml"
    file.write_bytes(text)
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(config=file, environ={})


def test_a_variable_that_is_no_text_is_named() -> None:
    environ = {"ANTIPHON_GENERAL__TENANT": b"\xff".decode(errors="surrogateescape")}
    with pytest.raises(ConfigError, match="ANTIPHON_GENERAL__TENANT") as refusal:
        load(environ=environ, folder=Path("/nowhere"))
    assert str(refusal.value).encode()


LETTERS = "abcdefghijklmnopqrstuvwxyz"
DOUBLING = "".join(f"{name}: &{name} {{<<: [*{of}, *{of}]}}\n" for of, name in pairwise(LETTERS))
LAUGHS = f"a: &a {{x: 1}}\n{DOUBLING}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (LAUGHS, "aliases"),
        ("areas: &a [*a]", "aliases"),
        ("areas: " + "[" * 1000, "not valid YAML"),
        ("area: 2001-99-99", "not valid YAML"),
        ("area: " + "9" * 5000, "not valid YAML"),
        ("area: !!timestamp x", "not valid YAML"),
        ("area: !!int ''", "not valid YAML"),
        ("area: !!bool x", "not valid YAML"),
    ],
    ids=range(8),
)
def test_a_home_that_breaks_the_yaml_reader_is_refused_at_once(text: str, why: str) -> None:
    with pytest.raises(HomeError, match=why):
        parse_home(text)


def test_a_request_past_its_bound_is_not_even_read() -> None:
    payload = b'{"id":"1","prompt":"x","more":"' + b"x" * MAX_REQUEST_BYTES + b'"}'
    with pytest.raises(PromptError, match="bytes"):
        decode_request(payload)
    assert request_id_of(payload) == ""


@pytest.mark.parametrize("body", [b"\0\1\x03", b"\0\1\x81"])
@pytest.mark.parametrize("kind", [0x90, 0xB0], ids=["SUBACK", "UNSUBACK"])
def test_an_acknowledgement_of_3_1_1_holds_no_code_of_mqtt_5(kind: int, body: bytes) -> None:
    with pytest.raises(PacketError):
        decode(kind, body, MQTT_311)


@pytest.mark.parametrize("read", [read_claim, read_append])
@pytest.mark.parametrize("answer", [None, 1, b"ok", [], [b"ok"], [b"ok", b"x"], [b"ok", [1]], [b"no", 1]])
def test_an_answer_that_no_script_of_ours_gives_is_refused(
    read: Callable[[object], object], answer: object
) -> None:
    with pytest.raises(CodecError):
        read(answer)
