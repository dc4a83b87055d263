"""What the demo asks of the demo home (`edge_agent/home/demo.yaml`), and what is right."""

from __future__ import annotations

from typing import Any

REQUESTS: tuple[tuple[str, Any], ...] = (
    (
        "turn on the kitchen lights",
        {"intent": "HassTurnOn", "slots": {"area": "Kitchen", "domain": "light"}},
    ),
    (
        "dim the bedroom lamp to 30 percent",
        {"intent": "HassLightSet", "slots": {"name": "Bedroom lamp", "brightness": 30}},
    ),
    (
        "it's too dark in here",
        {"intent": "HassTurnOn", "slots": {"area": "Living room", "domain": "light"}},
    ),
    (
        "close all the blinds upstairs",
        {
            "intent": "HassTurnOff",
            "slots": {"floor": "First floor", "domain": "cover", "device_class": "blind"},
        },
    ),
    (
        "set the living room to 21 degrees",
        {"intent": "HassClimateSetTemperature", "slots": {"area": "Living room", "temperature": 21}},
    ),
    (
        "lock the front door",
        {"intent": "HassTurnOn", "slots": {"name": "Front door"}},
    ),
    (
        "is the garage door open?",
        {"intent": "HassGetState", "slots": {"name": "Garage door", "state": "open"}},
    ),
    (
        "turn off the tv and the hallway light",
        [
            {"intent": "HassTurnOff", "slots": {"name": "TV"}},
            {"intent": "HassTurnOff", "slots": {"name": "Hallway light"}},
        ],
    ),
    (
        "start the vacuum",
        {"intent": "HassVacuumStart", "slots": {"name": "Robot vacuum"}},
    ),
    (
        "open the sauna",
        {"error": "no_such_entity", "reason": "The home has no such device."},
    ),
)

# Long enough to be interrupted: two actions.
LONG_REQUEST = "turn off the tv and the hallway light"
