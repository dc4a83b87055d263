"""The log of a session's uploaded hidden states, from which any worker rebuilds its KV cache.

`store` is the port, `memory` and `redis` are its adapters, `write_behind` keeps a slow or lost store
out of the way of the replies.
"""

from shared.context.store import ContextStore, LogRecord, SessionLog

__all__ = ["ContextStore", "LogRecord", "SessionLog"]
