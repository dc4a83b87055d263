"""What a client publishes: checked, authorised, routed.

Source: MQTT 5 section 3.3.4.
"""

from __future__ import annotations

from broker.embedded.auth import Client
from broker.embedded.core import BrokerCore
from broker.embedded.message import Message
from broker.embedded.packets import Publish
from broker.embedded.properties import Properties
from broker.embedded.reasons import PacketError, Reason
from broker.topics import check_topic
from shared.errors import TopicError


class Publisher:
    """One connection's publishing side; its topic aliases live and end with it."""

    def __init__(self, core: BrokerCore, client: Client) -> None:
        self._core = core
        self._client = client
        self._aliases: dict[int, str] = {}

    def publish(self, packet: Publish, now: float) -> tuple[Reason, str]:
        """Route one message.

        Returns:
            The reason for its PUBACK, and why in words when it was refused.

        Raises:
            PacketError: the packet breaks the protocol; the connection must close.
        """
        if packet.qos > 1:
            raise PacketError("QoS 1 is the highest served", Reason.QOS_NOT_SUPPORTED)
        topic = self._topic(packet)
        _check_properties(packet.properties)
        self._core.counters.received += 1
        if not self._core.authoriser.may_publish(self._client, topic):
            self._core.counters.refused_not_authorised += 1
            return Reason.NOT_AUTHORIZED, "this topic is not yours to publish to"
        message = Message.of(packet, self._client.client_id, now, topic=topic)
        reason = self._core.router.publish(message, now)
        return reason, "no room for more retained messages" if reason is Reason.QUOTA_EXCEEDED else ""

    def _topic(self, packet: Publish) -> str:
        """The topic by name or alias. Source: MQTT 5 section 3.3.2.3.4."""
        alias = packet.properties.topic_alias
        if alias is not None and not 0 < alias <= self._core.settings.max_topic_aliases:
            raise PacketError("this topic alias was not offered", Reason.TOPIC_ALIAS_INVALID)
        topic = packet.topic
        if not topic:
            known = self._aliases.get(alias or 0)
            if known is None:
                raise PacketError("no topic, and no alias that stands for one", Reason.PROTOCOL_ERROR)
            return known
        self._check(topic)
        if alias is not None:
            self._aliases[alias] = topic
        return topic

    def _check(self, topic: str) -> None:
        try:
            check_topic(topic, self._core.settings.topic_limits)
        except TopicError as error:
            raise PacketError(str(error), Reason.TOPIC_NAME_INVALID) from None


def _check_properties(props: Properties) -> None:
    if props.subscription_identifier:
        raise PacketError("a client may not send subscription identifiers", Reason.PROTOCOL_ERROR)
    response_topic = props.response_topic
    if response_topic is not None and ("+" in response_topic or "#" in response_topic):
        raise PacketError("a response topic may not hold wildcards", Reason.PROTOCOL_ERROR)
