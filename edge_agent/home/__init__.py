"""The home domain: a home's description, the part of it a request is about, and actions in it."""

from edge_agent.home.home import Area, Entity, Floor, Home, load_home, parse_home
from edge_agent.home.task import Answer, HomeTask

__all__ = ["Answer", "Area", "Entity", "Floor", "Home", "HomeTask", "load_home", "parse_home"]
