"""A worker's words to its sessions' edges, over the wire's size limits and error codes."""

from __future__ import annotations

import structlog

from broker.transport import Transport
from shared.errors import AntiphonError
from shared.wire import topics
from shared.wire.codec import encode
from shared.wire.messages import MAX_TEXT_CHARS, Refused, ToEdge
from shared.wire.topics import SessionAddress

log = structlog.get_logger(__name__)


class Outbox:
    """Publishes replies; one that can't be sent is asked for again by its edge."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def reply(self, address: SessionAddress, message: ToEdge) -> None:
        """Send a word to a session."""
        if not self._transport.publish_soon(topics.reply_topic(address), encode(message)):
            log.info("reply_not_sent", session=address.session)

    def refuse(self, address: SessionAddress, epoch: int, error: AntiphonError) -> None:
        """Tell a session no, and why."""
        told = log.info if error.retryable else log.warning
        told("session_refused", session=address.session, code=error.code, reason=str(error)[:200])
        text = str(error)[:MAX_TEXT_CHARS]
        self.reply(address, Refused(epoch, error.code, text, retryable=error.retryable))
