"""An MQTT 5 and 3.1.1 broker for one machine and for tests, written for asyncio."""

from broker.embedded.auth import (
    AclAuthoriser,
    AllowAll,
    Authenticator,
    Authoriser,
    Client,
    Login,
    PasswordAuthenticator,
)
from broker.embedded.counters import Counters
from broker.embedded.server import EmbeddedBroker, serve
from broker.embedded.settings import BrokerSettings

__all__ = [
    "AclAuthoriser",
    "AllowAll",
    "Authenticator",
    "Authoriser",
    "BrokerSettings",
    "Client",
    "Counters",
    "EmbeddedBroker",
    "Login",
    "PasswordAuthenticator",
    "serve",
]
