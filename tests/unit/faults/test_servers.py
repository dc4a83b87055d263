"""Servers end with whoever started them, and not before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Thread

import psutil
import pytest

from ops.faults.servers import REPOSITORY, EmbeddedServer, die_with_parent
from tests.waiting import wait_until

PARENT = """
import sys, time
from pathlib import Path
from ops.faults.servers import EmbeddedServer
print(EmbeddedServer(Path(sys.argv[1])).start().process.pid, flush=True)
time.sleep(600)
"""
needs_linux = pytest.mark.skipif(not die_with_parent(), reason="there is no setpriv --pdeathsig here")


@needs_linux
def test_a_server_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, cwd=REPOSITORY
    ) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        try:
            assert alive(server)
            parent.kill()
            wait_until(lambda: not alive(server), what="the server ends with its parent")
        finally:
            if server.is_running():
                server.kill()


def test_a_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    starting = Thread(target=server.start)
    starting.start()
    starting.join()
    try:
        assert server.process is not None
        # Were the thread its parent, the end would have been in it already.
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(0.2)
    finally:
        server.kill()


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
