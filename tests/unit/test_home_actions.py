"""Model output becomes an action of this home or a refusal, never anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edge_agent.home
from edge_agent.home import HomeTask, load_home
from edge_agent.home.prompt import answer_text
from edge_agent.home.vocabulary import INTENT_SLOTS, REQUIRED_SLOTS
from shared.errors import PromptError

HOME = load_home(Path(edge_agent.home.__file__).with_name("demo.yaml"))
TASK = HomeTask(HOME)


def output(intent: str, **slots: Any) -> str:
    return json.dumps({"intent": intent, "slots": slots})


@pytest.mark.parametrize(
    ("request_text", "written", "action", "text"),
    [
        (
            "turn on the kitchen lights",
            output("HassTurnOn", area=" kitchen", domain="light"),
            {"intent": "HassTurnOn", "slots": {"area": "Kitchen", "domain": "light"}},
            "Turned on the kitchen lights.",
        ),
        (
            "dim the bedroom lamp to 30 percent",
            output("HassLightSet", name=" bedroom lamp", brightness=30),
            {"intent": "HassLightSet", "slots": {"name": "Bedroom lamp", "brightness": 30}},
            "Set the bedroom lamp to 30 percent.",
        ),
        (
            "close all the blinds upstairs",
            output("HassTurnOff", floor=" first floor", domain="cover", device_class="blind"),
            {
                "intent": "HassTurnOff",
                "slots": {"floor": "First floor", "domain": "cover", "device_class": "blind"},
            },
            "Closed the first floor blinds.",
        ),
        (
            "lock the front door",
            output("HassTurnOn", name=" front door"),
            {"intent": "HassTurnOn", "slots": {"name": "Front door"}},
            "Locked the front door.",
        ),
        (
            "is the garage door open?",
            output("HassGetState", name=" garage door", state="open"),
            {"intent": "HassGetState", "slots": {"name": "Garage door", "state": "open"}},
            "Yes, the garage door is open.",
        ),
        (
            "which lights are on upstairs",
            output("HassGetState", floor=" first floor", domain="light", state="on"),
            {"intent": "HassGetState", "slots": {"floor": "First floor", "domain": "light", "state": "on"}},
            "2 lights on: Bedroom lamp, Desk lamp.",
        ),
        (
            "Put Greek yogurt on the list",
            output("HassShoppingListAddItem", item=" greek yogurt"),
            {"intent": "HassShoppingListAddItem", "slots": {"item": "Greek yogurt"}},
            "Added Greek yogurt to the shopping list.",
        ),
        (
            "pizza timer for 12 minutes",
            output("HassStartTimer", name=" pizza", minutes=12),
            {"intent": "HassStartTimer", "slots": {"name": "pizza", "minutes": 12}},
            "Started the pizza timer for 12 minutes.",
        ),
        (
            "set a timer for an hour and ten minutes",
            output("HassStartTimer", hours=1, minutes=10),
            {"intent": "HassStartTimer", "slots": {"hours": 1, "minutes": 10}},
            "Started the timer for 1 hour 10 minutes.",
        ),
        (
            "how warm is it",
            output("HassClimateGetTemperature", area=" living room"),
            {"intent": "HassClimateGetTemperature", "slots": {"area": "Living room"}},
            "It is 19.5 degrees in the living room.",
        ),
        (
            "quieter",
            output("HassSetVolumeRelative", area=" living room", volume_step="down"),
            {"intent": "HassSetVolumeRelative", "slots": {"area": "Living room", "volume_step": "down"}},
            "Turned the volume in the living room down.",
        ),
    ],
)
def test_a_valid_output_becomes_an_action_and_a_sentence(
    request_text: str, written: str, action: dict[str, Any], text: str
) -> None:
    answer = TASK.parse(request_text, written)
    assert (answer.action, answer.text, answer.ok) == (action, text, True)


def test_several_actions_stay_several() -> None:
    written = f"[{output('HassTurnOff', name=' tv')}, {output('HassTurnOff', name=' hallway light')}]"
    answer = TASK.parse("turn off the tv and the hallway light", written)
    assert isinstance(answer.action, list)
    assert [each["slots"]["name"] for each in answer.action] == ["TV", "Hallway light"]
    assert answer.text == "Turned off the TV. Turned off the hallway light."


def test_the_same_action_twice_is_done_once() -> None:
    once = output("HassTurnOff", name=" tv")
    answer = TASK.parse("turn off the tv", f"[{once}, {once}]")
    assert answer.action == {"intent": "HassTurnOff", "slots": {"name": "TV"}}


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ('{"error": "no_such_area"}', "no_such_area"),
        ('{"error": "not_a_command"}', "not_a_command"),
        ('{"error": "anything"}', "not_understood"),
        ('{"error": []}', "not_understood"),
        ("", "not_understood"),
        ("{", "not_understood"),
        ("[]", "not_understood"),
        ("[[]]", "not_understood"),
        ("7", "not_understood"),
        ("[" * 3_000, "not_understood"),
        ("x" * 5_000, "not_understood"),
        ('{"intent": "HassTurnOn"}', "not_understood"),
        ('{"intent": ["HassTurnOn"], "slots": {}}', "not_understood"),
        ('{"intent": "HassExplode", "slots": {}}', "not_understood"),
        (output("HassTurnOn", name=" front door", extra=1), "not_understood"),
        (output("HassTurnOn", name=7), "not_understood"),
        (output("HassLightSet", name=" bedroom lamp", brightness="30"), "not_understood"),
        (output("HassLightSet", name=" bedroom lamp", brightness=300), "not_understood"),
        (output("HassLightSet", name=" bedroom lamp", brightness=True), "not_understood"),
        (
            '{"intent": "HassLightSet", "slots": {"name": "bedroom lamp", "brightness": NaN}}',
            "not_understood",
        ),
        (output("HassLightSet", name=" bedroom lamp", color="banana"), "not_understood"),
        (output("HassLightSet", name=" bedroom lamp", temperature=21), "not_understood"),
        (output("HassClimateSetTemperature", area=" kitchen", temperature=6500), "not_understood"),
        (output("HassSetVolumeRelative", area=" kitchen", volume_step=5000), "not_understood"),
        (output("HassSetVolumeRelative", area=" kitchen", volume_step="sideways"), "not_understood"),
        (output("HassTurnOff", domain="weather"), "not_understood"),
        (output("HassTurnOff", area=" kitchen"), "not_understood"),
        (output("HassLightSet", brightness=30), "not_understood"),
        (output("HassListAddItem", item=" milk"), "not_understood"),
        (output("HassStartTimer", conversation_command=" turn off the tv"), "not_understood"),
        (output("HassTurnOn", name=" outdoor temperature"), "no_such_entity"),
        (output("HassTurnOn", name=" sauna"), "no_such_entity"),
        (output("HassTurnOn", area=" sauna", domain="light"), "no_such_area"),
        (output("HassTurnOn", floor=" attic", domain="light"), "no_such_area"),
        (output("HassTurnOn", area=" hallway", domain="fan"), "no_such_entity"),
        (output("HassLightSet", name=" front door", brightness=3), "no_such_entity"),
        (output("HassMediaPause", area=" bathroom"), "no_such_entity"),
        (f"[{output('HassTurnOn', name=' tv')}, {output('HassTurnOn', name=' sauna')}]", "no_such_entity"),
    ],
)
def test_everything_else_becomes_a_refusal(written: str, code: str) -> None:
    answer = TASK.parse("whatever was asked", written)
    assert not answer.ok
    assert isinstance(answer.action, dict)
    assert answer.action["error"] == code
    assert answer.action["reason"] in answer.text


@pytest.mark.parametrize("intent", sorted(REQUIRED_SLOTS))
def test_an_action_without_what_it_needs_is_a_refusal(intent: str) -> None:
    """ "Turned on everything", "moved everything to None percent": nobody asked for that."""
    assert not TASK.parse("whatever was asked", output(intent)).ok


def test_what_an_intent_needs_are_slots_that_it_has() -> None:
    for intent, groups in REQUIRED_SLOTS.items():
        assert all(set(group) <= set(INTENT_SLOTS[intent]) for group in groups)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
slot_names = st.sampled_from(sorted({slot for slots in INTENT_SLOTS.values() for slot in slots}))
action_like = st.fixed_dictionaries(
    {
        "intent": st.sampled_from(sorted(INTENT_SLOTS)),
        "slots": st.dictionaries(
            slot_names, json_values | st.sampled_from(["Kitchen", " tv", "light"]), max_size=3
        ),
    }
)


@given(st.text(max_size=60) | (json_values | action_like | st.lists(action_like, max_size=3)).map(json.dumps))
def test_no_output_can_invent_a_thing_or_crash_the_agent(written: str) -> None:
    answer = TASK.parse("turn on the light", written)
    actions = answer.action if isinstance(answer.action, list) else [answer.action]
    for action in actions:
        assert action is not None
        if not answer.ok:
            assert set(action) == {"error", "reason"}
            continue
        slots = action["slots"]
        assert "area" not in slots or slots["area"] in {area.name for area in HOME.areas}
        assert "floor" not in slots or slots["floor"] in {floor.name for floor in HOME.floors}
        if "name" in slots and "Timer" not in action["intent"]:
            assert slots["name"] in {entity.name for entity in HOME.entities}


@given(action_like)
def test_answers_have_one_text_whatever_the_order_of_slots(action: dict[str, Any]) -> None:
    slots = {key: value for key, value in action["slots"].items() if key in INTENT_SLOTS[action["intent"]]}
    backwards = dict(reversed(slots.items()))
    intent = action["intent"]
    assert answer_text({"intent": intent, "slots": slots}) == answer_text(
        {"intent": intent, "slots": backwards}
    )


def test_the_prompt_has_the_documented_format() -> None:
    assert TASK.prompt_text("Turn off the telly, and the hallway light!") == (
        " turn off the telly and the hallway light"
        "\nhere: living room\nmedia_player:* tv, telly\nlight:* hallway light\narea:* hallway\n="
    )


def test_a_wordless_request_is_refused() -> None:
    with pytest.raises(PromptError, match="no words"):
        TASK.prompt_text(" ?! ")
