"""Whatever the grammar lets a model write is an action or a refusal that the home understands."""

from __future__ import annotations

import random

import pytest

from edge_agent.home.actions import ActionReader
from edge_agent.home.grammar import ActionGrammar
from edge_agent.home.home import parse_home
from edge_agent.home.prompt import answer_text
from edge_agent.home.refusal import Refusal
from edge_agent.home.shortlist import MAX_REQUEST_WORDS, Shortlister
from edge_agent.token_paths import TokenPaths

HOME = parse_home("""
area: Kitchen
floors: [{name: First floor, aliases: [upstairs]}]
areas: [{name: Kitchen}, {name: Bedroom, floor: First floor}, {name: Bed nook}]
entities:
  - {id: light.a, name: Bedroom lamp, area: Bedroom}
  - {id: light.b, name: Bedroom ceiling light, area: Bedroom}
  - {id: light.c, name: Kitchen light, area: Kitchen}
  - {id: switch.kettle, name: Kettle, area: Kitchen}
  - {id: media_player.tv, name: TV, area: Bedroom}
  - {id: climate.t, name: Thermostat, area: Kitchen}
  - {id: todo.s, name: Shopping}
""")
END = 0


def encode(text: str) -> list[int]:
    """A token a character."""
    return [ord(character) for character in text]


GRAMMAR = ActionGrammar(encode, [END])


def paths(request: str) -> TokenPaths:
    return GRAMMAR.constraint(request, Shortlister(HOME).pick(request))


def accepts(request: str, answer: str) -> bool:
    walk = paths(request)
    for token in [*encode(answer), END]:
        if token not in walk.allowed():
            return False
        walk.accept(token)
    return walk.allowed() == []


def written(request: str, seed: int) -> str:
    """A random walk to the end."""
    rng, walk, text = random.Random(seed), paths(request), ""
    while (token := rng.choice(walk.allowed())) != END:
        text += chr(token)
        walk.accept(token)
    return text


def outcome(reader: ActionReader, request: str, output: str) -> str:
    try:
        return "done" if reader.read(request, output) else "nothing"
    except Refusal as refusal:
        return refusal.code


REQUESTS = [
    "turn on the bedroom lamp",
    "set the thermostat to 21.5 degrees and the kitchen light to 7 percent",
    "add oat milk and 2 eggs to the shopping list",
    "everything off upstairs except the tv",
    "volume up by 20 percent please",
    "timer for 00012345678901234567890 minutes called pizza",
    "xyzzy",
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_whatever_it_allows_is_understood(request_: str):
    reader = ActionReader(HOME)
    for seed in range(150):
        output = written(request_, seed)
        assert outcome(reader, request_, output) != "not_understood", output


@pytest.mark.parametrize(
    ("request_", "action"),
    [
        ("bedroom lamp off", {"intent": "HassTurnOff", "slots": {"name": "Bedroom lamp"}}),
        ("lights on in here", {"intent": "HassTurnOn", "slots": {"area": "Kitchen", "domain": "light"}}),
        (
            "thermostat to 21.5",
            {"intent": "HassClimateSetTemperature", "slots": {"name": "Thermostat", "temperature": 21.5}},
        ),
        (
            "put oat milk on the shopping list",
            {"intent": "HassShoppingListAddItem", "slots": {"item": "oat milk"}},
        ),
        (
            "kettle on and bedroom lamp blue",
            [
                {"intent": "HassTurnOn", "slots": {"name": "Kettle"}},
                {"intent": "HassLightSet", "slots": {"name": "Bedroom lamp", "color": "blue"}},
            ],
        ),
        ("turn it down by 20 percent", {"intent": "HassSetVolumeRelative", "slots": {"volume_step": -20}}),
        ("dim the kettle", {"intent": "HassTurnOff", "slots": {"name": "Kettle"}}),
        ("dim it", {"intent": "HassLightSet", "slots": {"area": "Kitchen", "brightness": 30}}),
        ("what time is it", {"intent": "HassGetCurrentTime", "slots": {}}),
        ("sing", {"error": "not_a_command"}),
    ],
)  # fmt: skip
def test_right_answers_are_allowed(request_: str, action):
    assert accepts(request_, answer_text(action))


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ("bedroom lamp off", '{"intent": "HassTurnOff", "slots": {"name": " sauna"}}'),
        ("bedroom lamp off", '{"intent": "HassTurnOff", "slots": {"area": " attic"}}'),
        ("bedroom lamp off", '{"intent": "HassExplode", "slots": {}}'),
        ("bedroom lamp off", '{"intent": "HassMediaPause", "slots": {"name": " bedroom lamp"}}'),
        ("thermostat to 21", '{"intent": "HassClimateSetTemperature", "slots": {"temperature": 22}}'),
        ("buy oat milk", '{"intent": "HassShoppingListAddItem", "slots": {"item": " milk oat"}}'),
        ("bedroom lamp off", '[{"intent": "HassTurnOff", "slots": {"name": " bedroom lamp"}}]'),
        ("bedroom lamp off", "ok"),
    ],
)  # fmt: skip
def test_inventions_are_not(request_: str, answer: str):
    assert not accepts(request_, answer)


def test_words_far_into_a_request_are_no_longer_offered():
    """A long request must not make every token of an answer slower than the one before."""
    milk = answer_text({"intent": "HassShoppingListAddItem", "slots": {"item": "milk"}})
    assert accepts("the " * (MAX_REQUEST_WORDS - 1) + "milk", milk)
    assert not accepts("the " * MAX_REQUEST_WORDS + "milk", milk)


def test_an_endless_list_is_not_allowed():
    walk = paths("kettle on")
    for token in encode("[" + ", ".join(['{"intent": "HassNevermind", "slots": {}}'] * 8)):
        walk.accept(token)
    assert walk.allowed() == encode("]")
