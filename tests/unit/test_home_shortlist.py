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


def shown(request: str, home: Home = DEMO) -> list[tuple[str, str]]:
    """The lines of a prompt, as far as the request names them in full."""
    mentions = Shortlister(home).pick(request).mentions
    return [(mention.kind, mention.spelled) for mention in mentions if mention.in_full]


@pytest.mark.parametrize(
    ("request_text", "expected"),
    [
        ("turn the tv and the bedroom lamp off", ["tv", "bedroom lamp", "bedroom"]),
        ("bedroom lamp and tv off", ["bedroom lamp", "bedroom", "tv"]),
        ("tv off upstairs and the hallway light on", ["tv", "first floor", "hallway light", "hallway"]),
        ("hallway light on and telly off", ["hallway light", "hallway", "tv"]),
        ("lamp in the bedroom off and front door locked", ["bedroom lamp", "bedroom", "front door"]),
        ("front door locked and bed room lamp off", ["front door", "bedroom lamp", "bedroom"]),
        ("the front door and the bedrom lamp please", ["front door"]),
    ],
)
def test_mentions_stand_in_the_order_of_the_request(request_text: str, expected: list[str]) -> None:
    assert [spelled for _, spelled in shown(request_text)] == expected


def test_two_names_that_begin_alike_stand_where_each_is_said() -> None:
    home = Home(entities=(Entity("light.a", "Desk zebra lamp"), Entity("fan.b", "Desk aardvark fan")))
    zebra, aardvark = ("light", "desk zebra lamp"), ("fan", "desk aardvark fan")
    assert shown("desk zebra lamp on and desk aardvark fan off", home) == [zebra, aardvark]
    assert shown("desk aardvark fan on and desk zebra lamp off", home) == [aardvark, zebra]


def test_a_sole_thing_stands_where_its_kind_is_said() -> None:
    first = picked("start the vacuum and turn off the tv")
    assert first.index("robot vacuum") < first.index("tv")
    second = picked("turn off the tv and start the vacuum")
    assert second.index("tv") < second.index("robot vacuum")


def test_a_word_that_many_names_share_does_not_place_them() -> None:
    """Both are lamps from the first word on, but each is mentioned where its room is."""
    home = Home(
        entities=(
            Entity("light.a", "Bedroom lamp"),
            Entity("light.b", "Kitchen lamp"),
            Entity("fan.c", "Punka"),
        )
    )
    names = picked("the lamp in the kitchen on the punka off and the lamp in the bedroom off", home)
    assert names == ["kitchen lamp", "punka", "bedroom lamp"]


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
