"""A worker's words to its sessions' edges, over the wire's size limits and error codes.

What one batch has for the sessions of one edge goes as one message.
"""

from __future__ import annotations

import structlog

from broker.group_sender import GroupSender, Letter
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
        self._sender = GroupSender(transport, _log_unsent)

    def reply(self, address: SessionAddress, message: ToEdge) -> None:
        """Send a word to a session."""
        letter = Letter(topics.reply_topic(address), address.session, encode(message))
        if not self._sender.send(topics.reply_group_topic(address.owner), letter):
            _log_unsent(letter)

    def flush(self) -> None:
        """Send at once what was said in this turn of the event loop."""
        self._sender.flush()

    def refuse(self, address: SessionAddress, epoch: int, error: AntiphonError) -> None:
        """Tell a session no, and why."""
        told = log.info if error.retryable else log.warning
        told("session_refused", session=address.session, code=error.code, reason=str(error)[:200])
        text = str(error)[:MAX_TEXT_CHARS]
        self.reply(address, Refused(epoch, error.code, text, retryable=error.retryable))


def _log_unsent(letter: Letter) -> None:
    log.info("reply_not_sent", session=letter.session)
