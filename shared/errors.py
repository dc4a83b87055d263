"""One error tree for the whole project.

Every class has a wire `code`, so that a refusal crosses the network without its traceback, and
`retryable`: whether the same request may succeed later without anybody changing it. Messages name
the cause and the fix.
"""

from __future__ import annotations

from typing import ClassVar


class AntiphonError(Exception):
    """Base of every error we raise on purpose."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False


class ConfigError(AntiphonError):
    """A setting is missing or makes no sense; the message names it and its source."""

    code = "config"


class BundleError(AntiphonError):
    """A checkpoint or bundle can't be used as it is."""

    code = "bundle"


class UnsupportedModelError(BundleError):
    """A model family, exit or split that the partition can't express."""

    code = "unsupported_model"


class HomeError(AntiphonError):
    """A home description is not valid."""

    code = "home"


class WireError(AntiphonError):
    """A peer sent what the protocol does not allow (their fault, not ours)."""

    code = "wire"


class MessageTooLargeError(WireError):
    """A message is over its size limit; it was not decoded."""

    code = "too_large"


class UnknownVersionError(WireError):
    """A message is of a wire version that this build does not speak."""

    code = "unknown_version"


class TopicError(WireError):
    """A topic or an id in it is malformed."""

    code = "topic"


class CodecError(WireError):
    """Hidden states are not what their codec, width and count say."""

    code = "codec"


class SessionError(AntiphonError):
    """A session can't go on as asked."""

    code = "session"


class BundleMismatchError(SessionError):
    """Edge and worker hold different bundles."""

    code = "bundle_mismatch"


class ContextTooLongError(SessionError):
    """A session asked for more positions than the limit allows."""

    code = "context_too_long"


class BusyError(SessionError):
    """No room now; ask again after `retry_after_s`."""

    code = "busy"
    retryable = True

    def __init__(self, message: str, retry_after_s: float = 0.1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EvictedError(SessionError):
    """A worker gave the session up to make room; another open brings it back."""

    code = "evicted"
    retryable = True


class QuotaError(SessionError):
    """An edge asks more of a worker than one edge may; the message names the setting."""

    code = "quota"
    retryable = True


class DrainingError(SessionError):
    """The worker is leaving; another one goes on."""

    code = "draining"
    retryable = True


class PoisonError(SessionError):
    """A session's states broke the engine twice; no other worker gets them."""

    code = "poison"


class EngineError(SessionError):
    """The worker's engine is broken, whatever it is given; another worker's may not be."""

    code = "engine"
    retryable = True


class StaleEpochError(SessionError):
    """A write or reply carries an epoch older than the session's; its sender was replaced."""

    code = "stale_epoch"


class ContextGapError(SessionError):
    """A log append would leave a hole; `frontier` is where the log ends."""

    code = "context_gap"

    def __init__(self, message: str, frontier: int = 0) -> None:
        super().__init__(message)
        self.frontier = frontier


class LinkError(AntiphonError):
    """The broker or the cloud can't be reached in time."""

    code = "link"
    retryable = True


class StoreError(AntiphonError):
    """The context store can't be reached or refuses writes; generation goes on without it."""

    code = "store"
    retryable = True


class StoreRefusedError(StoreError):
    """The context store serves others but not this session: what is under its key is not ours, say."""


class PromptError(AntiphonError):
    """A prompt can't be answered as given; the message says why."""

    code = "prompt"
