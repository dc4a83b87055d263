"""When an answer counts as right, as invalid, as alike."""

from __future__ import annotations

import pytest

from edge_agent.home.home import Area, Entity, Home
from ops.quality.marks import acts, is_invalid, is_refused, is_right, rouge_l
from ops.quality.sources import Request

LAMP = Entity(id="light.lamp", name="Desk lamp", area="Study", state="off")
HOME = Home(areas=(Area(name="Study"),), entities=(LAMP,))
ON = {"intent": "HassTurnOn", "slots": {"name": "Desk lamp"}}
OFF = {"intent": "HassTurnOff", "slots": {"name": "Desk lamp"}}


def test_actions_may_stand_in_any_order_but_none_may_be_missing():
    request = Request(HOME, "on and off", ([ON, OFF],))
    assert is_right([OFF, ON], request)
    assert not is_right(ON, request)


def test_every_accepted_answer_is_right():
    request = Request(HOME, "whichever", (ON, OFF))
    assert is_right(OFF, request)
    assert not is_right({"error": "not_a_command"}, request)


def test_a_refusal_is_right_by_its_code_whatever_its_words():
    request = Request(HOME, "open the sauna", ({"error": "no_such_entity"},))
    assert is_right({"error": "no_such_entity", "reason": "The home has no such device."}, request)
    assert not is_right({"error": "no_such_area", "reason": "…"}, request)


@pytest.mark.parametrize(
    ("output", "invalid"),
    [
        ('{"intent": "HassTurnOn", "slots": {"name": " desk lamp"}}', False),
        ('{"intent": "HassTurnOn", "slots": {"name": " moon lamp"}}', True),
        ('{"intent": "HassTurnOn", "slots": {"area": " attic", "domain": "light"}}', True),
        ('[{"intent": "HassTurnOn", "slots": {"area": " study", "domain": "light"}}]', False),
        ('{"intent": "HassCancelTimer", "slots": {"name": " anything"}}', False),
        ('{"intent": "HassTurnOn", "slots": {}}', True),
        ('{"intent": "HassLightSet", "slots": {"name": " desk lamp"}}', True),
        ('[{"intent": "HassNevermind", "slots": {}}, {"intent": "HassStartTimer", "slots": {}}]', True),
        ('{"error": "no_such_entity"}', False),
    ],
)
def test_an_action_that_lacks_a_slot_or_names_what_the_home_lacks_is_invalid(output: str, *, invalid: bool):
    assert is_invalid(output, {"error": "no_such_entity"}, HOME) is invalid


def test_a_request_is_to_be_refused_if_no_right_answer_acts():
    refusal = {"error": "not_a_command"}
    assert is_refused(Request(HOME, "sing", (refusal, {"error": "no_such_entity"})))
    assert not is_refused(Request(HOME, "light", (refusal, ON)))
    assert acts(ON)
    assert acts([ON, OFF])
    assert not acts({"error": "no_such_area", "reason": "…"})


def test_text_that_is_no_action_is_invalid():
    assert is_invalid("sure thing!", {"error": "not_understood"}, HOME)


def test_rouge_l_is_the_f1_of_the_longest_common_subsequence():
    assert rouge_l("the cat sat on the mat", "the cat on a mat") == pytest.approx(2 * 4 / 11)
    assert rouge_l("a b c", "a b c") == 1.0
    assert rouge_l("a b", "c d") == 0.0
    assert rouge_l("", "") == 1.0
    assert rouge_l("a", "") == 0.0
