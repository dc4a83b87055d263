"""CONNECT and what it is answered: who the client is, and what the broker grants it.

Source: MQTT 5 sections 3.1.4 (CONNECT actions) and 3.2 (CONNACK).
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

from broker.embedded.auth import Client, Login
from broker.embedded.core import BrokerCore
from broker.embedded.packets import MQTT_5, MQTT_311, Connect, Will
from broker.embedded.properties import Properties, write_bare
from broker.embedded.reasons import PacketError, Reason
from broker.topics import check_topic
from shared.errors import TopicError

_PAIR_BYTES = 160
"""The objects of a user property, which may have five bytes in its packet."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A client that may come in.

    Attributes:
        client: its id and user name.
        assigned: whether the broker chose the id.
        keep_alive_s: what counts from now on; 0 means never to time out.
    """

    client: Client
    assigned: bool
    keep_alive_s: int


def admit(core: BrokerCore, connect: Connect, certificate_name: str | None) -> Admission:
    """Check everything a CONNECT claims.

    Args:
        core: the broker.
        connect: the packet.
        certificate_name: common name of the client's certificate, when there is one.

    Raises:
        PacketError: with the reason for the CONNACK that refuses.
    """
    if len(core.connections) > core.settings.max_connections:
        raise PacketError("too many connections; try later", Reason.SERVER_BUSY)
    if connect.properties.authentication_method is not None:
        raise PacketError("no extended authentication is served", Reason.BAD_AUTHENTICATION_METHOD)
    client_id = _client_id(connect, core.settings.max_client_id_bytes)
    client = Client(client_id, _username(core, connect, client_id, certificate_name))
    if connect.will is not None:
        _check_will(core, client, connect.will, connect.version)
    keep_alive_s = _keep_alive_s(connect, core.settings.max_keep_alive_s)
    return Admission(client, assigned=not connect.client_id, keep_alive_s=keep_alive_s)


def granted(core: BrokerCore, connect: Connect, admission: Admission) -> Properties:
    """What CONNACK tells an MQTT 5 client. Source: MQTT 5 section 3.2.2.3."""
    settings, expiry_s = core.settings, core.registry.expiry_s(connect)
    asked_expiry_s = connect.properties.session_expiry_interval or 0
    changed_keep_alive = admission.keep_alive_s != connect.keep_alive_s
    return Properties(
        session_expiry_interval=expiry_s if expiry_s != asked_expiry_s else None,
        receive_maximum=settings.receive_maximum,
        maximum_qos=1,
        maximum_packet_size=settings.max_packet_bytes,
        assigned_client_identifier=admission.client.client_id if admission.assigned else None,
        topic_alias_maximum=settings.max_topic_aliases,
        server_keep_alive=admission.keep_alive_s if changed_keep_alive else None,
    )


def _client_id(connect: Connect, max_bytes: int) -> str:
    if not connect.client_id:
        if connect.version == MQTT_311 and not connect.clean_start:
            raise PacketError("a kept session needs a client id", Reason.CLIENT_IDENTIFIER_NOT_VALID)
        return f"auto-{uuid4().hex}"
    if len(connect.client_id.encode()) > max_bytes:
        raise PacketError(f"a client id may have {max_bytes} bytes", Reason.CLIENT_IDENTIFIER_NOT_VALID)
    return connect.client_id


def _username(core: BrokerCore, connect: Connect, client_id: str, certificate_name: str | None) -> str | None:
    if core.settings.use_identity_as_username:
        if certificate_name is None:
            raise PacketError("bring a client certificate with a common name", Reason.NOT_AUTHORIZED)
        return certificate_name
    login = Login(client_id, connect.username, connect.password)
    if not core.authenticator.authenticate(login):
        raise PacketError("unknown user or wrong password", Reason.BAD_USER_NAME_OR_PASSWORD)
    return connect.username


def _check_will(core: BrokerCore, client: Client, will: Will, version: int) -> None:
    if will.qos > 1 and version == MQTT_5:
        raise PacketError("a will may have QoS 1 at most", Reason.QOS_NOT_SUPPORTED)
    try:
        check_topic(will.topic, core.settings.topic_limits)
    except TopicError as error:
        raise PacketError(f"the will's topic: {error}", Reason.TOPIC_NAME_INVALID) from None
    if _will_bytes(will) > core.settings.max_will_bytes:
        raise PacketError(f"a will may have {core.settings.max_will_bytes} bytes", Reason.QUOTA_EXCEEDED)
    if not core.authoriser.may_publish(client, will.topic):
        raise PacketError("the will's topic is not yours to publish to", Reason.NOT_AUTHORIZED)


def _will_bytes(will: Will) -> int:
    """What is kept of a will until its session ends, about."""
    pairs_bytes = _PAIR_BYTES * len(will.properties.user_property)
    return len(will.topic.encode()) + len(write_bare(will.properties)) + pairs_bytes + len(will.payload)


def _keep_alive_s(connect: Connect, max_keep_alive_s: int) -> int:
    asked_s = connect.keep_alive_s
    if connect.version != MQTT_5 or not max_keep_alive_s or 0 < asked_s <= max_keep_alive_s:
        return asked_s
    return max_keep_alive_s
