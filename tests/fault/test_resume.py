"""`antiphon bench faults`, stopped in mid-fault: the file has what was made, `--resume` makes the rest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil
import pytest

from ops.faults.report import FaultReport
from ops.faults.servers import die_with_parent
from tests.fault.conftest import DEADLINE_S
from tests.servers import REPOSITORY
from tests.waiting import wait_until

# Three starts of a rig and two of the command, on a machine that others use too.
pytestmark = pytest.mark.timeout(300)
LIMIT_S = 120.0

FAULTS = ("everything twice", "every reply ten times")
SIZE = ("--runs", "1", "--deadline-s", f"{DEADLINE_S:g}")
COMMAND = [sys.executable, "-m", "ops.cli", "bench", "faults", *SIZE]


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a short name: rigs have sockets below it."""
    return tmp_path_factory.mktemp("r")


@pytest.fixture
def command(folder: Path) -> list[str]:
    names = [word for fault in FAULTS for word in ("--fault", fault)]
    return [*COMMAND, *names, "--json", str(folder / "faults.json")]


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(folder)}


def report(folder: Path) -> FaultReport:
    return msgspec.json.decode((folder / "faults.json").read_bytes(), type=FaultReport)


def second_edge(folder: Path) -> bool:
    """Whether the second rig's edge listens; the first one's socket went with it."""
    return any(folder.glob("faults-*/rig-2")) and any(folder.glob("rig-*/edge"))


@contextmanager
def in_the_second_fault(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The bench, whose second rig is up; whatever it leaves behind is killed at the end."""
    out = folder / "out.log"
    with out.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment(folder))
    family = [psutil.Process(process.pid)]
    try:
        wait_until(lambda: process.poll() is not None or second_edge(folder), LIMIT_S, "a second edge")
        assert process.poll() is None, out.read_text()
        family += family[0].children(recursive=True)
        yield process
    finally:
        for member in family:
            if member.is_running():
                member.kill()
        process.wait(10)


def test_a_bench_that_is_killed_in_its_second_fault_is_completed_by_resuming(
    command: list[str], folder: Path
) -> None:
    with in_the_second_fault(command, folder) as process:
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait(10)
        if die_with_parent():
            wait_until(lambda: not any(map(alive, family)), LIMIT_S, "its servers and members end with it")
    kept = report(folder)
    assert [row.fault for row in kept.rows] == [FAULTS[0]]

    done = subprocess.run(
        [*command, "--resume"], capture_output=True, text=True, timeout=LIMIT_S, env=environment(folder)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 2 faults" in done.stdout
    assert [line.partition(":")[0] for line in done.stdout.splitlines() if " run, " in line] == [
        f"2/2 {FAULTS[1]}"
    ]
    whole = report(folder)
    assert [row.fault for row in whole.rows] == list(FAULTS)
    assert whole.rows[0] == kept.rows[0]
    assert whole.summary["runs"] == 2.0


def test_ctrl_c_leaves_the_file_and_nothing_else_and_says_how_to_go_on(
    command: list[str], folder: Path
) -> None:
    with in_the_second_fault(command, folder) as process:
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 130
    said = (folder / "out.log").read_text()
    assert "faults.json holds 1 faults; the same command with --resume goes on from there" in said
    assert "Traceback" not in said
    assert [row.fault for row in report(folder).rows] == [FAULTS[0]]
    assert not list(folder.glob("faults-*"))
    wait_until(lambda: not any(map(alive, family)), what="the bench's processes end with it")


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
