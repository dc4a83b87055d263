"""Set-up scripts: quiet where nothing is missing, and a clear way out where nothing can be done."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / "ops" / "setup"
SERVERS = ("mosquitto", "mosquitto_pub", "redis-server", "faketime")
BASH = shutil.which("bash") or "/bin/bash"


def program(folder: Path, name: str, script: str = "exit 0") -> None:
    path = folder / name
    path.write_text(f"#!{BASH}\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A PATH of its own, in which nobody is root and there is no sudo."""
    program(tmp_path, "id", "echo 1000")
    (tmp_path / "dirname").symlink_to(shutil.which("dirname") or "/usr/bin/dirname")
    (tmp_path / "bash").symlink_to(BASH)
    return tmp_path


def ensure_servers(programs: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BASH, str(SETUP / "ensure-servers.sh")],
        env={"PATH": str(programs)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_where_all_servers_are_nothing_is_installed_or_said(programs: Path) -> None:
    for server in SERVERS:
        program(programs, server)
    done = ensure_servers(programs)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_only_what_is_missing_is_asked_for(programs: Path) -> None:
    program(programs, "mosquitto")
    program(programs, "mosquitto_pub")
    program(programs, "faketime")
    program(programs, "apt-get", "exit 1")
    done = ensure_servers(programs)
    assert done.returncode == 1
    assert "run: apt-get install redis-server" in done.stderr
    assert "mosquitto" not in done.stderr


def test_without_apt_the_message_says_what_to_install(programs: Path) -> None:
    done = ensure_servers(programs)
    assert done.returncode == 1
    assert "no apt here" in done.stderr
    assert "mosquitto mosquitto-clients redis-server" in done.stderr


def test_sudo_that_needs_a_password_nobody_can_type_is_an_end(programs: Path) -> None:
    program(programs, "apt-get", "exit 0")
    program(programs, "sudo", "echo 'sudo: a password is required' >&2; exit 1")
    (programs / "tee").symlink_to(shutil.which("tee") or "/usr/bin/tee")
    done = ensure_servers(programs)
    assert done.returncode == 1
    assert "sudo apt-get install mosquitto mosquitto-clients redis-server" in done.stderr


def test_a_python_too_old_is_refused_with_the_fix(programs: Path, tmp_path: Path) -> None:
    program(programs, "python3", "exit 1")
    done = subprocess.run(
        [BASH, str(SETUP / "ensure-venv.sh"), str(tmp_path / "venv"), "dev"],
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert "make PYTHON=" in done.stderr
