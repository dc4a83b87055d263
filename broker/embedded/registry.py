"""Which sessions there are: opened, taken over, kept for a while, ended; and their wills.

Source: MQTT 5 sections 3.1.2.4 (clean start), 3.1.2.5 (will), 3.1.2.11.2 (session expiry), 3.1.4 (take-over).
"""

from __future__ import annotations

from broker.embedded.budget import Budget
from broker.embedded.counters import Counters
from broker.embedded.message import Message
from broker.embedded.packets import MQTT_5, Connect, Will
from broker.embedded.reasons import PacketError, Reason
from broker.embedded.router import Router
from broker.embedded.session import Session
from broker.embedded.settings import BrokerSettings
from broker.embedded.timers import Timers


class SessionRegistry:
    """All sessions by client id.

    Attributes:
        budget: what they hold together.
    """

    def __init__(self, settings: BrokerSettings, router: Router, timers: Timers, counters: Counters) -> None:
        self._settings = settings
        self._router = router
        self._timers = timers
        self._counters = counters
        self.budget = Budget(settings.max_total_queued_bytes)
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, connect: Connect, client_id: str, now: float) -> tuple[Session, bool]:
        """The session for a client that connects, and whether it was there before.

        Raises:
            PacketError: there is no room for one more session (quota exceeded).
        """
        session = self._sessions.get(client_id)
        if session is not None:
            self._displace(session, connect, now)
            session = self._sessions.get(client_id)
        present = session is not None
        if session is None:
            session = self._create(client_id)
        self._renew(session, connect)
        return session, present

    def lose(self, session: Session, now: float, *, publish_will: bool) -> None:
        """A session's connection is gone: its shared messages move on, its will may speak, its time runs."""
        session.detach()
        self._router.rehome(session, now)
        will = session.will
        if not publish_will:
            session.will = None
        elif will is not None:
            delay_s = min(will.properties.will_delay_interval or 0, session.expiry_s)
            self._time_will(session, delay_s, now)
        if session.expiry_s == 0:
            self.end(session, now)
        else:
            session.end_timer = self._timers.at(now + session.expiry_s, lambda at: self.end(session, at))

    def end(self, session: Session, now: float) -> None:
        """Forget a session; a will that was still delayed is published now. Source: MQTT 5 [MQTT-3.1.3-9]."""
        self._publish_will(session, now)
        _stop_timers(session)
        session.ended = True  # so that its shared messages move on even to kept sessions
        self._sessions.pop(session.client_id, None)
        self._router.forget(session)
        self._router.rehome(session, now)
        session.discard()

    def expiry_s(self, connect: Connect) -> int:
        """How long the session of this CONNECT may outlive its connection."""
        if connect.version == MQTT_5:
            asked_s = connect.properties.session_expiry_interval or 0
        else:
            asked_s = 0 if connect.clean_start else self._settings.max_session_expiry_s
        return min(asked_s, self._settings.max_session_expiry_s)

    def _displace(self, session: Session, connect: Connect, now: float) -> None:
        link, session.link = session.link, None
        if link is not None:
            link.close(Reason.SESSION_TAKEN_OVER)
            self.lose(session, now, publish_will=True)
        if connect.clean_start and not session.ended:
            self.end(session, now)

    def _create(self, client_id: str) -> Session:
        if len(self._sessions) >= self._settings.max_sessions:
            raise PacketError("no room for another session", Reason.QUOTA_EXCEEDED)
        session = Session(client_id, self._settings, self._counters, self.budget)
        self._sessions[client_id] = session
        return session

    def _renew(self, session: Session, connect: Connect) -> None:
        _stop_timers(session)
        session.expiry_s = self.expiry_s(connect)
        session.will = connect.will

    def _time_will(self, session: Session, delay_s: int, now: float) -> None:
        if delay_s == 0:
            self._publish_will(session, now)
        else:
            session.will_timer = self._timers.at(now + delay_s, lambda at: self._publish_will(session, at))

    def _publish_will(self, session: Session, now: float) -> None:
        will, session.will = session.will, None
        if will is not None:
            self._router.publish(_will_message(will, session.client_id, now), now)


def _will_message(will: Will, client_id: str, now: float) -> Message:
    message = Message.of(will, client_id, now)
    message.qos = min(will.qos, 1)
    return message


def _stop_timers(session: Session) -> None:
    for timer in (session.end_timer, session.will_timer):
        if timer is not None:
            timer.cancel()
    session.end_timer = session.will_timer = None
