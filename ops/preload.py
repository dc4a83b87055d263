"""What `antiphon up` imports once and its processes share: they fork from a server that holds it.

torch and transformers take seconds to import; a process that forks after that starts at once.
"""

from __future__ import annotations

import signal

# Ctrl-C goes to every process of the terminal; the one that started us decides what it means.
signal.signal(signal.SIGINT, signal.SIG_IGN)

from ops.garbage import kept_for_good  # noqa: E402

with kept_for_good():
    import cloud_worker.service  # noqa: F401
    import edge_agent.service  # noqa: F401
