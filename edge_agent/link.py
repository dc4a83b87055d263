"""The edge's link to the cloud: carries the words of its `CloudSession`s over MQTT.

All decisions are the session's and the breaker's (sans I/O); this module publishes, listens and
keeps time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from broker.group_reader import GroupReader
from broker.group_sender import GroupSender, Letter
from broker.presence import read_status
from broker.transport import Incoming, Transport
from edge_agent.cloud_session import CloudSession, Phase
from edge_agent.health import LinkHealth, LinkState
from edge_agent.pool import Pool
from edge_agent.reply_time import ReplyTime
from edge_agent.rungs import Guess
from edge_agent.session_actions import Action, Answered, Failed, NotTaken, SendOpen, SendStep
from edge_agent.uplink import Uplink
from edge_agent.want import Want
from shared.errors import AntiphonError, LinkError
from shared.wire import topics
from shared.wire.codec import decode_to_edge, encode
from shared.wire.ids import check_id
from shared.wire.messages import Close, Open, Opened, Step

log = structlog.get_logger(__name__)

BROKER_AWAY = "the broker can't be reached"
LINE_FULL = "the line to the broker is full"
CLOUD_RESTING = "the cloud did not answer a moment ago"
# An open or close is worth nothing once its session has waited that long.
CONTROL_EXPIRY_S = 10
# A broker that is there answers a probe at once; one that does not in this time is as good as lost.
PROBE_TIMEOUT_S = 1.0
# How long the last words to workers may take when the edge stops.
FAREWELL_TIMEOUT_S = 0.5


@dataclass(frozen=True, slots=True)
class CloudReply:
    """The cloud's answer to one question.

    Attributes:
        position: of the row whose successor was wanted.
        guess: the token.
        compute_us: the session's share of the worker's forward.
        queue_us: its wait at the worker.
    """

    position: int
    guess: Guess
    compute_us: int = 0
    queue_us: int = 0


class Replies(Protocol):
    """Who asked."""

    def on_reply(self, reply: CloudReply) -> None:
        """One question is answered."""
        ...

    def on_no_reply(self, reason: str) -> None:
        """None of the questions that are open will be answered; why, in words for people."""
        ...


class LinkedSession:
    """One session on the link.

    Attributes:
        address: whose session it is, in topics.
        core: the conversation's state machine.
        uplink_bytes: payload bytes published for it, heads included.
    """

    def __init__(self, link: CloudLink, address: topics.SessionAddress, core: CloudSession) -> None:
        self.address = address
        self.core = core
        self.uplink_bytes = 0
        self._link = link
        self._replies: Replies | None = None
        self._timer: asyncio.TimerHandle | None = None

    def listen(self, replies: Replies) -> None:
        """Tell `replies` what comes of questions from now on."""
        self._replies = replies

    def open(self) -> None:
        """Look for a worker while the edge is still reading the prompt, or goes on alone."""
        now_s = self._link.now_s()
        if self.core.phase is Phase.CLOSED and self._link.health.may_open(now_s):
            self.perform(self.core.open(now_s))

    @property
    def hopeful(self) -> bool:
        """Whether a question would be sent, now or as soon as a worker has taken the session."""
        return not self._absence()

    def ask(self, wants: Sequence[Want], until_s: float = math.inf) -> None:
        """Ask for tokens. Each is told to the listener, or that none will come, within the patience.

        Args:
            wants: ascending, behind all that is wanted already.
            until_s: when an answer is of no use any more, on the event loop's clock.
        """
        absence = self._absence()
        if absence:
            self.open()
            self._tell_none(absence)
        else:
            self.perform(self.core.ask(wants, self._link.now_s(), until_s))

    def push(self) -> None:
        """Send the states that the worker lacks, so that the next question finds them there."""
        self.perform(self.core.push(self._link.now_s()))

    def rewind(self, length: int) -> None:
        """The text from position `length` on has changed: what was asked about it is taken back."""
        self.core.rewind(length)
        self._set_timer()

    def _absence(self) -> str:
        """Why a question does not wait for the cloud; empty when it does.

        A session that has a worker may always ask it. One that needs a worker, while the cloud is silent,
        goes on alone until it has one.
        """
        if self.core.phase is Phase.REFUSED:
            return self.core.refusal
        if not self._link.health.connected:
            return BROKER_AWAY
        return self._link.why_rest() if self.core.is_unserved else ""

    def close(self) -> None:
        """End the session here and at its worker."""
        farewell = self.core.close()
        self._replies = None
        self._set_timer()
        self._link.forget(self, farewell)

    def perform(self, actions: Sequence[Action]) -> None:
        """Do what the state machine asks for, and keep its deadline."""
        for action in actions:
            match action:
                case SendOpen(message):
                    self._link.publish_open(self, message)
                case SendStep(worker, message):
                    if not self._send(worker, message):
                        return
                case Answered(position, guess, compute_us, queue_us):
                    self._link.note_success()
                    if self._replies is not None:
                        self._replies.on_reply(CloudReply(position, guess, compute_us, queue_us))
                case Failed() as failure:
                    self._fail(failure)
                case NotTaken(reason):
                    self._link.note_failure(self._link.why_nobody() or reason)
        self._set_timer()

    def _fail(self, failure: Failed) -> None:
        """Tell why; a refused session, or an answer whose own time is over, is not the link's failure."""
        reason = failure.reason
        if self.core.phase is not Phase.REFUSED:
            reason = self._link.why_nobody() or reason
            if not failure.late:
                self._link.note_failure(reason)
        self._tell_none(reason)

    def _send(self, worker: str, step: Step) -> bool:
        payload = encode(step)
        self.uplink_bytes += len(payload)
        if self._link.publish_step(self, worker, payload):
            return True
        self.line_full()
        return False

    def line_full(self) -> None:
        """A step could not be sent."""
        connected = self._link.health.connected
        self.perform(self.core.on_link_lost(LINE_FULL if connected else BROKER_AWAY))

    def _tell_none(self, reason: str) -> None:
        if self._replies is not None:
            self._replies.on_no_reply(reason)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.core.deadline_s is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self.core.deadline_s, self._on_timer)

    def _on_timer(self) -> None:
        # call_at may wake a clock tick early, so the deadline itself is passed, not the time.
        self._timer = None
        due_s = self.core.deadline_s
        self.perform(self.core.on_deadline(max(self._link.now_s(), due_s or 0.0)))


class CloudLink:
    """All sessions of one edge on one transport.

    Args:
        transport: the MQTT connection; started and stopped by the caller.
        tenant: whose home this is.
        edge: this edge's id.
        model: name of the bundle that the pool serves. digest: the bundle's digest.

    Attributes:
        health: the state of the way to the cloud.
        reply_time: how long answers take. uplink: how fast states travel.
    """

    def __init__(self, transport: Transport, *, tenant: str, edge: str, model: str, digest: str) -> None:
        self.health = LinkHealth(connected=transport.connected)
        self.reply_time = ReplyTime()
        self.uplink = Uplink()
        self._transport = transport
        self._steps = GroupSender(transport, self._on_unsent)
        self._tenant = check_id(tenant, "tenant")
        self._edge = check_id(edge, "edge id")
        self._pool_id = check_id(topics.pool_of(model, digest), "pool id")
        self._pool = Pool(model, digest)
        self._sessions: dict[str, LinkedSession] = {}
        self._probing: asyncio.Task[None] | None = None
        self._told = self.health.state
        self._publishing: set[asyncio.Task[None]] = set()
        transport.on_state(self._on_state)
        transport.subscribe(topics.reply_filter(tenant, edge), self._on_reply)
        own_groups = topics.reply_group_topic(topics.EdgeAddress(tenant, edge))
        transport.subscribe(own_groups, GroupReader(self._on_reply))
        transport.subscribe(topics.worker_status_filter(tenant), self._on_worker_status)

    @staticmethod
    def now_s() -> float:
        """The event loop's clock."""
        return asyncio.get_running_loop().time()

    def session(self, session_id: str, core: CloudSession) -> LinkedSession:
        """Put a session on the link; `LinkedSession.close` takes it off."""
        address = topics.SessionAddress(self._tenant, self._edge, session_id)
        session = LinkedSession(self, address, core)
        self._sessions[session_id] = session
        return session

    def forget(self, session: LinkedSession, farewell: Close | None) -> None:
        """Take a session off the link, with a last word to its worker."""
        self._sessions.pop(session.address.session, None)
        if farewell is not None:
            topic = topics.steps_topic(session.address, session.core.worker)
            self._publish_control(topic, encode(farewell))

    def publish_open(self, session: LinkedSession, message: Open) -> None:
        """Ask the pool for a worker."""
        self._publish_control(topics.open_topic(session.address, self._pool_id), encode(message))

    def publish_step(self, session: LinkedSession, worker: str, payload: bytes) -> bool:
        """Send a step to its worker, with others that are ready; False when the broker is away."""
        address = session.address
        letter = Letter(topics.steps_topic(address, worker), address.session, payload)
        return self._steps.send(topics.step_group_topic(address.owner, worker), letter)

    def _on_unsent(self, letter: Letter) -> None:
        """The line took no more by the end of the turn in which a step was sent."""
        session = self._sessions.get(letter.session)
        if session is not None:
            session.line_full()

    def why_nobody(self) -> str:
        """Why no worker takes a session, as far as presence tells."""
        return self._pool.absence()

    def why_rest(self) -> str:
        """Why nobody waits for a worker to take a session; empty when somebody would."""
        return self.why_nobody() or (CLOUD_RESTING if self.health.failures else "")

    def note_success(self) -> None:
        """An ask was answered."""
        self.health.on_success()
        self._tell()

    def note_failure(self, reason: str) -> None:
        """An ask or an open went unanswered: rest, and see whether the broker is there at all."""
        log.warning("cloud_unavailable", reason=reason)
        if self.health.connected:
            self.health.on_failure(self.now_s())
            self._tell()
            self._probe()

    def _probe(self) -> None:
        if self._probing is None:
            self._probing = asyncio.get_running_loop().create_task(self._probe_broker())

    async def _probe_broker(self) -> None:
        try:
            await self._transport.probe(PROBE_TIMEOUT_S)  # a silent broker is told to `_on_state`
        finally:
            self._probing = None

    def _tell(self) -> None:
        """Log each change of state once."""
        state = self.health.state
        if state is not self._told:
            self._told = state
            tell = log.info if state is LinkState.ONLINE else log.warning
            tell("link_state", state=state.value)

    async def wait_connected(self, timeout_s: float) -> bool:
        """Wait for the broker connection; whether there is one."""
        return await self._transport.wait_connected(timeout_s)

    async def aclose(self) -> None:
        """Let the last words go out, for `FAREWELL_TIMEOUT_S` at most."""
        if self._probing is not None:
            self._probing.cancel()
        if self._publishing:
            await asyncio.wait(self._publishing, timeout=FAREWELL_TIMEOUT_S)
        for task in self._publishing:
            task.cancel()
        await asyncio.gather(*self._publishing, return_exceptions=True)

    def _publish_control(self, topic: str, payload: bytes) -> None:
        """Publish an open or close at QoS 1; its failure shows as a missed deadline."""
        task = asyncio.get_running_loop().create_task(self._publish(topic, payload))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def _publish(self, topic: str, payload: bytes) -> None:
        try:
            await self._transport.publish(topic, payload, qos=1, expiry_s=CONTROL_EXPIRY_S, timeout_s=2.0)
        except LinkError as error:
            log.info("control_not_published", reason=str(error))

    def _on_state(self, connected: bool) -> None:
        self.health.on_connection(connected=connected)
        self._tell()
        if not connected:
            self._pool.forget()
            for session in list(self._sessions.values()):
                session.perform(session.core.on_link_lost(BROKER_AWAY))

    def _on_reply(self, incoming: Incoming) -> None:
        try:
            address = topics.parse_reply(incoming.topic)
            message = decode_to_edge(incoming.payload)
        except AntiphonError as error:
            log.warning("reply_refused", code=error.code, reason=str(error))
            return
        session = self._sessions.get(address.session)
        if isinstance(message, Opened):
            self._note_opened(message, session, address)
        if session is not None:
            session.perform(session.core.on_message(message, self.now_s()))

    def _note_opened(
        self, message: Opened, session: LinkedSession | None, address: topics.SessionAddress
    ) -> None:
        """A worker took a session: that is a sign of life, and tell one that took it in vain."""
        self.health.on_taken()
        if session is None or session.core.is_in_vain(message):
            farewell = Close(message.epoch, elsewhere=session is not None)
            self._publish_control(topics.steps_topic(address, message.worker), encode(farewell))

    def _on_worker_status(self, incoming: Incoming) -> None:
        try:
            worker = topics.parse_worker_status(incoming.topic)
            status = read_status(incoming.payload)
        except AntiphonError as error:
            log.warning("status_refused", code=error.code, reason=str(error))
            return
        was_deserted, was_there = self._pool.deserted, self._pool.has(worker)
        if not self._pool.hear(worker, status):
            return
        self._note_pool(was_deserted=was_deserted, joined=self._pool.has(worker) and not was_there)
        if not status.online:
            for session in list(self._sessions.values()):
                session.perform(session.core.on_worker_gone(worker, self.now_s(), lost=status.lost))

    def _note_pool(self, *, was_deserted: bool, joined: bool) -> None:
        """Nobody to ask: rest. Somebody new: ask at once, whoever else was thought to be there."""
        if self._pool.deserted and not was_deserted:
            self.health.on_failure(self.now_s())
        elif joined or (was_deserted and not self._pool.deserted):
            self.health.on_success()
        self._tell()
