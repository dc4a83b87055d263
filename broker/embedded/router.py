"""Brings each published message to the sessions that asked for it.

Source: MQTT 5 sections 3.3.4 (actions on PUBLISH), 3.8.4 (actions on SUBSCRIBE), 4.8 (subscriptions).
"""

from __future__ import annotations

from typing import TypeAlias

from broker.embedded.counters import Counters
from broker.embedded.message import Message
from broker.embedded.reasons import Reason
from broker.embedded.retained import RetainedStore
from broker.embedded.session import Delivery, Session, Subscription
from broker.embedded.settings import BrokerSettings
from broker.embedded.shared import SharedGroup
from broker.filter_tree import FilterTree

_Target: TypeAlias = Subscription | SharedGroup

SEND_ALWAYS, SEND_IF_NEW, SEND_NEVER = 0, 1, 2
"""Retain handling of a subscription. Source: MQTT 5 section 3.8.3.1."""


class Router:
    """Subscriptions of all sessions, the shared groups among them, and the retained messages.

    Attributes:
        subscriptions: how many there are.
    """

    def __init__(self, settings: BrokerSettings, counters: Counters) -> None:
        self.retained = RetainedStore(settings.max_retained_messages, settings.max_retained_bytes)
        self.subscriptions = 0
        self._tree: FilterTree[_Target] = FilterTree()
        self._counters = counters

    def subscribe(self, subscription: Subscription, wire_filter: str) -> bool:
        """Add or replace a subscription.

        Args:
            subscription: the subscription, its filter without ``$share``.
            wire_filter: the filter as the client wrote it; what UNSUBSCRIBE will name.

        Returns:
            Whether it is new.
        """
        session = subscription.session
        new = wire_filter not in session.subscriptions
        self.subscriptions += new
        session.subscriptions[wire_filter] = subscription
        if subscription.group is None:
            self._tree.put(subscription.topic_filter, session, subscription)
        else:
            self._group(subscription.group, subscription.topic_filter).join(subscription)
        return new

    def unsubscribe(self, session: Session, wire_filter: str) -> bool:
        """Remove a subscription; False when there was none."""
        subscription = session.subscriptions.pop(wire_filter, None)
        if subscription is None:
            return False
        self.subscriptions -= 1
        if subscription.group is None:
            self._tree.discard(subscription.topic_filter, session)
        else:
            self._leave_group(subscription.group, subscription)
        return True

    def publish(self, message: Message, now: float) -> Reason:
        """Keep it if retained, then give it to every session whose filter matches.

        Returns:
            Success, "no matching subscribers", or "quota exceeded" when it could not be retained (it is
            then delivered to nobody: a publisher that asked for both should not get half).
        """
        if message.retain and not self.retained.keep(message, now):
            return Reason.QUOTA_EXCEEDED
        direct: dict[Session, Delivery] = {}
        matched = False
        for target in self._tree.match(message.topic):
            if isinstance(target, SharedGroup):
                matched |= self._to_group(target, message, now)
            elif not (target.no_local and target.session.client_id == message.sender):
                _merge(direct, target, message)
        for session, delivery in direct.items():
            session.deliver(delivery, now)
        return Reason.SUCCESS if matched or direct else Reason.NO_MATCHING_SUBSCRIBERS

    def send_retained(self, subscription: Subscription, now: float) -> None:
        """Give a subscription the retained messages its filter matches.

        Source: MQTT 5 [MQTT-3.3.1-9]; shared subscriptions get none, section 4.8.2.
        """
        if subscription.group is not None:
            return
        for message in self.retained.match(subscription.topic_filter, now):
            if subscription.no_local and message.sender == subscription.session.client_id:
                continue
            subscription.session.deliver(_delivery(subscription, message, retain=True), now)

    def rehome(self, session: Session, now: float) -> None:
        """Give shared messages that a lost member never acknowledged to another member.

        While the session is kept, only a connected member is better than waiting for it to come back.

        Source: MQTT 5 section 4.8.2: allowed "as soon as it loses its connection".
        """
        for delivery in session.take_shared(lambda group: session.ended or group.has_other(session)):
            group = delivery.group
            other = group.pick(without=session) if group is not None else None
            if other is not None:
                self._counters.redelivered += 1
                other.session.deliver(_delivery(other, delivery.message, group=group), now)

    def forget(self, session: Session) -> None:
        """Remove every subscription of a session that has ended."""
        for wire_filter in list(session.subscriptions):
            self.unsubscribe(session, wire_filter)

    def _to_group(self, group: SharedGroup, message: Message, now: float) -> bool:
        member = group.pick()
        if member is None:
            return False
        member.session.deliver(_delivery(member, message, group=group), now)
        return True

    def _group(self, name: str, topic_filter: str) -> SharedGroup:
        group = self._tree.get(topic_filter, name)
        if not isinstance(group, SharedGroup):
            group = SharedGroup(name, topic_filter)
            self._tree.put(topic_filter, name, group)
        return group

    def _leave_group(self, name: str, subscription: Subscription) -> None:
        group = self._group(name, subscription.topic_filter)
        group.leave(subscription.session)
        if not len(group):
            self._tree.discard(subscription.topic_filter, name)


def _delivery(
    subscription: Subscription, message: Message, *, retain: bool = False, group: SharedGroup | None = None
) -> Delivery:
    identifier = subscription.identifier
    return Delivery(
        message,
        min(subscription.qos, message.qos),
        retain=retain or (message.retain and subscription.retain_as_published),
        subscription_ids=() if identifier is None else (identifier,),
        group=group,
    )


def _merge(direct: dict[Session, Delivery], subscription: Subscription, message: Message) -> None:
    """Overlapping filters of one session give one delivery, at their highest QoS, with all identifiers.

    Source: MQTT 5 section 3.3.4.
    """
    delivery = _delivery(subscription, message)
    other = direct.get(subscription.session)
    if other is not None:
        delivery.qos = max(delivery.qos, other.qos)
        delivery.retain |= other.retain
        delivery.subscription_ids += other.subscription_ids
    direct[subscription.session] = delivery
