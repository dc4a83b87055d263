"""The shortlist brings up what a request is about and little else, quickly."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import msgspec
import pytest

import edge_agent.home
from edge_agent.home import Area, Entity, Home, HomeTask, load_home
from edge_agent.home.shortlist import MAX_AREAS, MAX_ENTITIES, Shortlister

DEMO = load_home(Path(edge_agent.home.__file__).with_name("demo.yaml"))


def picked(request: str, home: Home = DEMO) -> list[str]:
    return [mention.spelled for mention in Shortlister(home).pick(request).entities]


def areas(request: str, home: Home = DEMO) -> list[str]:
    return [mention.spelled for mention in Shortlister(home).pick(request).areas]


@pytest.mark.parametrize(
    ("request_text", "expected"),
    [
        ("dim the bedroom lamp to 30 percent", "bedroom lamp"),
        ("lamp in the bedroom off", "bedroom lamp"),
        ("turn off the bed room lamp", "bedroom lamp"),
        ("turn off the bedrom lamp", "bedroom lamp"),
        ("turn on the telly", "tv"),
        ("turn on the ceiling light", "living room ceiling light"),
        ("lock the front door", "front door"),
        ("is the garage door open?", "garage door"),
        ("start the vacuum", "robot vacuum"),
        ("mow the lawn", "lawn mower"),
    ],
)
def test_the_thing_meant_comes_first(request_text: str, expected: str) -> None:
    assert picked(request_text)[0] == expected


def test_both_things_of_a_double_request_are_there() -> None:
    assert set(picked("turn off the tv and the hallway light")[:2]) == {"tv", "hallway light"}


def test_what_the_home_lacks_brings_up_nothing() -> None:
    assert picked("open the sauna") == []
    assert picked("tell me a joke") == []
    assert areas("set the sauna to 60 degrees") == []


def test_a_shared_word_does_not_bring_up_another_room() -> None:
    assert areas("turn on the lights in the living room") == ["living room"]


def test_an_alias_is_shown_beside_its_name() -> None:
    floors = Shortlister(DEMO).pick("close all the blinds upstairs").floors
    assert [(floor.spelled, floor.alias) for floor in floors] == [("first floor", "upstairs")]


def test_the_list_stays_short_however_alike_the_names() -> None:
    home = Home(
        areas=tuple(Area(f"Lamp room {index}") for index in range(20)),
        entities=tuple(Entity(f"light.l{index}", f"Lamp {index}") for index in range(50)),
    )
    shortlist = Shortlister(home).pick("turn on the lamp in the lamp room")
    assert len(shortlist.entities) <= MAX_ENTITIES
    assert len(shortlist.areas) <= MAX_AREAS


def test_an_empty_home_and_a_wordless_request_give_an_empty_list() -> None:
    assert Shortlister(Home()).pick("turn on the light").entities == ()
    assert Shortlister(DEMO).pick("?!").entities == ()


def test_a_home_of_120_things_stays_fast() -> None:
    """Under 5 ms for a request, as the edge pays it before the first token."""
    more = tuple(
        Entity(f"light.extra_{index}", f"{place} {kind} {index}", area="Kitchen")
        for index, (place, kind) in enumerate(
            (place, kind)
            for place in ("Old", "Blue", "Corner", "Tall", "Shelf")
            for kind in ("lamp", "spot") * 8
        )
    )
    task = HomeTask(msgspec.structs.replace(DEMO, entities=(*DEMO.entities, *more)))
    assert len(DEMO.entities) + len(more) >= 120
    spent = []
    for _ in range(30):
        started = time.perf_counter()
        task.prompt_text(
            "please turn off the tv and the hallway light and dim the bedroom lamp to 30 percent"
        )
        spent.append(time.perf_counter() - started)
    assert statistics.median(spent) < 0.005
