"""What a client subscribes to and gives up: checked, authorised, acknowledged.

Source: MQTT 5 sections 3.8.4 and 3.10.4.
"""

from __future__ import annotations

from collections.abc import Callable

from broker.embedded.auth import Client
from broker.embedded.core import BrokerCore
from broker.embedded.packets import Packet, SubAck, Subscribe, SubscriptionRequest, UnsubAck, Unsubscribe
from broker.embedded.reasons import PacketError, Reason
from broker.embedded.router import SEND_ALWAYS, SEND_IF_NEW
from broker.embedded.session import Session, Subscription
from broker.topics import check_filter, split_shared
from shared.errors import TopicError


def subscribe(
    core: BrokerCore,
    session: Session,
    client: Client,
    packet: Subscribe,
    send: Callable[[Packet], None],
    now: float,
) -> None:
    """Add each subscription asked for, acknowledge them, then send the retained messages they match.

    Raises:
        PacketError: a shared subscription with "no local". Source: MQTT 5 [MQTT-3.8.3-4].
    """
    numbers = packet.properties.subscription_identifier
    identifier = numbers[0] if numbers else None
    reasons: list[Reason] = []
    wanting_retained: list[Subscription] = []
    for request in packet.requests:
        asked = _subscription(core, session, client, request, identifier)
        if isinstance(asked, Reason):
            reasons.append(asked)
            continue
        new = core.router.subscribe(asked, request.topic_filter)
        reasons.append(Reason(asked.qos))
        if request.retain_handling == SEND_ALWAYS or (request.retain_handling == SEND_IF_NEW and new):
            wanting_retained.append(asked)
    send(SubAck(packet.packet_id, tuple(reasons)))
    for subscription in wanting_retained:
        core.router.send_retained(subscription, now)


def unsubscribe(core: BrokerCore, session: Session, packet: Unsubscribe) -> UnsubAck:
    """Remove each subscription named."""
    removed = [core.router.unsubscribe(session, each) for each in packet.topic_filters]
    reasons = (Reason.SUCCESS if each else Reason.NO_SUBSCRIPTION_EXISTED for each in removed)
    return UnsubAck(packet.packet_id, tuple(reasons))


def _subscription(
    core: BrokerCore, session: Session, client: Client, request: SubscriptionRequest, identifier: int | None
) -> Subscription | Reason:
    """The subscription asked for, or why it is refused."""
    try:
        group, topic_filter = split_shared(request.topic_filter)
        check_filter(topic_filter, core.settings.topic_limits)
    except TopicError:
        return Reason.TOPIC_FILTER_INVALID
    if group is not None and request.no_local:
        raise PacketError("a shared subscription can't be 'no local'", Reason.PROTOCOL_ERROR)
    if not core.authoriser.may_subscribe(client, topic_filter):
        core.counters.refused_not_authorised += 1
        return Reason.NOT_AUTHORIZED
    if request.topic_filter not in session.subscriptions and not _room_for_one(core, session):
        return Reason.QUOTA_EXCEEDED
    return Subscription(
        session,
        topic_filter,
        group=group,
        qos=min(request.qos, 1),
        no_local=request.no_local,
        retain_as_published=request.retain_as_published,
        identifier=identifier,
    )


def _room_for_one(core: BrokerCore, session: Session) -> bool:
    settings = core.settings
    of_all, of_client = core.router.subscriptions, len(session.subscriptions)
    return of_all < settings.max_subscriptions and of_client < settings.max_subscriptions_per_client
