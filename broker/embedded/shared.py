"""A shared subscription: each message goes to one member of the group.

Source: MQTT 5 section 4.8.2.
"""

from __future__ import annotations

from collections import deque

from broker.embedded.session import Session, Subscription


class SharedGroup:
    """The members of one `$share/{name}/{filter}`, served in turn."""

    def __init__(self, name: str, topic_filter: str) -> None:
        self.name = name
        self.topic_filter = topic_filter
        self._turns: deque[Subscription] = deque()

    def __len__(self) -> int:
        return len(self._turns)

    def join(self, subscription: Subscription) -> None:
        """Add a member, or renew its options."""
        self.leave(subscription.session)
        self._turns.append(subscription)

    def leave(self, session: Session) -> None:
        """Remove a member; one that is no member is fine."""
        for subscription in self._turns:
            if subscription.session is session:
                self._turns.remove(subscription)
                return

    def pick(self, *, without: Session | None = None) -> Subscription | None:
        """Whose turn it is: the next member that can take a message at once.

        When none can, the next connected one, then the next kept session; None when there is no member.
        """
        connected: Subscription | None = None
        kept: Subscription | None = None
        for _ in range(len(self._turns)):
            member = self._turns[0]
            self._turns.rotate(-1)
            if member.session is without:
                continue
            if member.session.ready:
                return member
            if member.session.connected:
                connected = connected or member
            else:
                kept = kept or member
        return connected or kept

    def has_other(self, session: Session) -> bool:
        """Whether a connected member other than this one could take its messages over."""
        return any(each.session.connected for each in self._turns if each.session is not session)
