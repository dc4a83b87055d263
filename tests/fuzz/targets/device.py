"""Devices and owners: requests as JSON, homes as YAML."""

from __future__ import annotations

import msgspec

from edge_agent.home.home import parse_home
from edge_agent.request import Failure, Request, decode_request, request_id_of
from shared.errors import AntiphonError
from tests.fuzz.target import Target, same

HOME = b"""\
area: Kitchen
floors: [{name: Ground floor, aliases: [downstairs]}]
areas: [{name: Kitchen, floor: Ground floor}, {name: Hall}]
entities:
  - {id: light.kitchen, name: Kitchen light, area: Kitchen, state: on, attributes: {brightness: 80}}
  - {id: sensor.hall, name: Hall sensor, state: 21.5}
"""


def request(data: bytes) -> None:
    """A request comes back; a refusal can be told to the device, under the id that it gave itself."""
    name = request_id_of(data)
    try:
        asked = decode_request(data)
    except AntiphonError as error:
        msgspec.json.encode(Failure.of(name, error))
        raise
    same(lambda: decode_request(msgspec.json.encode(asked)), asked)


def _requests() -> list[bytes]:
    full = Request("turn on the light", "1", True, 20, "standalone", 0.5, None, 0.7, 40, 0.9, 7)
    texts = [b'{"prompt": "\\ud83d\\ude00 \\u00e9"}', b'{"prompt": "\\ud800"}', b'{"id": "\\udfff"}']
    nested = [b'{"x":' + b"[" * 1000, b'{"prompt":1,"id":"a"}', b'{"prompt":"' + b"\xf0\x9f" + b'"}']
    return [msgspec.json.encode(full), b'{"prompt":"x"}', *texts, *nested]


def home(data: bytes) -> None:
    described = parse_home(data)
    msgspec.to_builtins(described)


def _homes() -> list[bytes]:
    doubling = b"a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nc: &c {<<: [*b, *b]}\n"
    bad_values = [b"area: 2001-99-99", b"area: !!timestamp x", b"area: !!int ''", b"area: !!float x"]
    deep = b"areas: " + b"[" * 400
    endless = b"entities: [{id: light.a, name: A, attributes: &x {y: *x}}]"
    numbers = [b"area: " + b"9" * 5000, b"area: 1:99:99:99", b"? [1]\n: 2", b"area: !!bool x"]
    return [HOME, b"{}", b"areas: [{name: Hall}]", doubling, deep, endless, *bad_values, *numbers]


TARGETS = [
    Target("device.request", request, _requests),
    Target("device.home", home, _homes, max_bytes=384, share=0.01),
]
