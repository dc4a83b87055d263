"""'Everything' and 'all but' become plain actions of Home Assistant's language."""

from __future__ import annotations

import pytest

from edge_agent.home.actions import ActionReader
from edge_agent.home.home import parse_home
from edge_agent.home.prompt import answer_text
from edge_agent.home.refusal import Refusal

HOME = parse_home("""
floors: [{name: Top}]
areas: [{name: Hall}, {name: Den, floor: Top}, {name: Loft, floor: Top}]
entities:
  - {id: light.hall, name: Lamp, area: Hall}
  - {id: light.den, name: Den lamp, area: Den}
  - {id: light.loft, name: Lamp, area: Loft}
  - {id: light.free, name: Lantern}
  - {id: fan.den, name: Fan, area: Den}
  - {id: lock.hall, name: Front door, area: Hall}
""")


def read(**slots: str):
    action = {"intent": "HassTurnOff", "slots": slots}
    return [each["slots"] for each in ActionReader(HOME).read("", answer_text(action))]


def test_everything_is_one_action_for_each_kind_of_switchable_thing():
    assert read(domain="everything") == [{"domain": "light"}, {"domain": "fan"}]


def test_everything_in_a_place_stays_there():
    assert read(floor="Top", domain="everything") == [
        {"floor": "Top", "domain": "light"},
        {"floor": "Top", "domain": "fan"},
    ]
    assert read(area="Hall", domain="everything") == [{"area": "Hall", "domain": "light"}]


def test_all_but_one_names_every_other_and_tells_namesakes_apart():
    assert read(domain="light", except_name="Den lamp") == [
        {"name": "Lamp", "area": "Hall"},
        {"name": "Lamp", "area": "Loft"},
        {"name": "Lantern"},
    ]


def test_all_but_a_room_names_the_other_rooms_and_what_stands_nowhere():
    assert read(domain="light", except_area="Den") == [
        {"area": "Hall", "domain": "light"},
        {"area": "Loft", "domain": "light"},
        {"name": "Lantern"},
    ]


def test_everything_but_leaves_locks_alone():
    assert read(domain="everything", except_name="Fan")[-1] == {"name": "Lantern"}


def test_nothing_left_is_a_refusal():
    with pytest.raises(Refusal, match="no such device"):
        read(area="Hall", domain="light", except_area="Hall")
