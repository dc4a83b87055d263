"""A home's YAML becomes a checked home, or an error that says where and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

import edge_agent.home
from edge_agent.home import load_home, parse_home
from shared.errors import HomeError

DEMO = Path(edge_agent.home.__file__).with_name("demo.yaml")


def test_the_demo_home_is_valid() -> None:
    home = load_home(DEMO)
    assert home.area == "Living room"
    assert home.floor_of("Bedroom") == "First floor"
    assert home.floor_of("Garden") is None
    assert {entity.domain for entity in home.entities} >= {"light", "cover", "lock", "climate", "vacuum"}


def test_bare_on_and_numbers_are_states_although_yaml_reads_them_otherwise() -> None:
    home = parse_home("""
        entities:
          - {id: light.a, name: A, state: on}
          - {id: light.b, name: B, state: off}
          - {id: sensor.c, name: C, state: 21.5}
    """)
    assert [entity.state for entity in home.entities] == ["on", "off", "21.5"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1, 2]", "mapping"),
        ("areas: [", "not valid YAML"),
        ("areas: [{name: Kitchen}, {name: kitchen}]", "described twice"),
        ("areas: [{name: Kitchen, floor: Cellar}]", "Cellar"),
        ("area: Attic", "Attic"),
        ("areas: [{name: '?'}]", "empty name"),
        ("entities: [{id: lamp, name: Lamp}]", "light.bedroom_lamp"),
        ("entities: [{id: light.a, name: A}, {id: light.a, name: B}]", "light.a"),
        ("entities: [{id: light.a, name: A, area: Moon}]", "Moon"),
        ("entities: [{id: light.a, name: '!'}]", "spoken name"),
        ("entities: [{id: light.a}]", "name"),
        ("entities: [{id: light.a, name: A, colour: red}]", "colour"),
        ("entities: 7", "array"),
        ("rooms: []", "rooms"),
    ],
)
def test_a_broken_description_is_refused_with_its_cause(text: str, told: str) -> None:
    with pytest.raises(HomeError, match=told):
        parse_home(text, source="home.yaml")


def test_errors_name_the_file(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.yaml"
    with pytest.raises(HomeError, match=r"nowhere\.yaml"):
        load_home(missing)


def test_a_huge_file_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(HomeError, match="larger"):
        parse_home(b"#" * 2_000_001)
