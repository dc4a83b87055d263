"""`antiphon broker serve` with passwords and access rules, met by Mosquitto's own clients."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.access import AccessPlan
from broker.mosquitto import render_access
from broker.passwords import render_password_file
from tests.conftest import need_binary
from tests.servers import HOST, REPOSITORY, ServerProcess, find_binary
from tests.waiting import wait_until

ROOT = "antiphon/v1/home/device"
RUN_TIMEOUT_S = 30.0
SILENCE_S = 1
BROKER_SERVE = [sys.executable, "-m", "ops.cli", "broker", "serve", "--host", HOST]


def clean_environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ANTIPHON_")}
    return {**kept, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}


class BrokerServe(ServerProcess):
    """The command as a process."""

    name = "broker-serve"

    def command(self) -> list[str]:
        files = ["--password-file", str(self.folder / "passwords"), "--acl-file", str(self.folder / "acl")]
        return [*BROKER_SERVE, "--port", str(self.port), *files]

    def environment(self) -> dict[str, str]:
        return clean_environment()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerServe]:
    """A broker that knows the hub and two devices."""
    need_binary("mosquitto_pub", "mosquitto-clients")
    folder = tmp_path_factory.mktemp("served")
    (folder / "passwords").write_text(render_password_file({name: name for name in ("hub", "lamp", "clock")}))
    (folder / "acl").write_text(render_access([AccessPlan(tenant="home", edges=("hub",))]))
    with BrokerServe(folder) as server:
        yield server


def as_user(server: ServerProcess, program: str, user: str, password: str, *arguments: str) -> list[str]:
    who = ["-V", "5", "-h", server.host, "-p", str(server.port), "-u", user, "-P", password, "-q", "1"]
    return [find_binary(program) or program, *who, *arguments]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)


def publish(server: ServerProcess, user: str, topic: str, password: str | None = None) -> str:
    """Leave a retained message; what mosquitto_pub complains of, empty when nothing."""
    done = run(as_user(server, "mosquitto_pub", user, password or user, "-t", topic, "-m", "{}", "-r"))
    return done.stdout + done.stderr


def test_strangers_are_refused(served: BrokerServe) -> None:
    for user, password in (("stranger", "x"), ("lamp", "wrong")):
        refusal = publish(served, user, f"{ROOT}/lamp/prompt", password)
        assert "bad user name or password" in refusal.lower()
    assert publish(served, "lamp", f"{ROOT}/lamp/prompt") == ""


def test_a_device_may_publish_in_its_own_subtree_alone(served: BrokerServe) -> None:
    assert "Not authorized" in publish(served, "lamp", f"{ROOT}/clock/prompt")
    assert publish(served, "lamp", f"{ROOT}/lamp/prompt") == ""
    hears = ("-t", f"{ROOT}/+/prompt", "-F", "%t %p", "-W", str(SILENCE_S))
    assert run(as_user(served, "mosquitto_sub", "hub", "hub", *hears)).stdout == f"{ROOT}/lamp/prompt {{}}\n"


def test_a_device_may_read_its_own_subtree_alone(served: BrokerServe) -> None:
    def refused(topic: str) -> bool:
        done = run(as_user(served, "mosquitto_sub", "lamp", "lamp", "-t", topic, "-W", str(SILENCE_S)))
        return "denied" in done.stdout + done.stderr

    assert refused(f"{ROOT}/clock/answer")
    assert refused(f"{ROOT}/#")
    assert not refused(f"{ROOT}/lamp/#")


@pytest.mark.parametrize(
    ("option", "content", "words"),
    [
        ("--password-file", None, "can't read password file"),
        ("--password-file", "lamp:plain\n", "mosquitto_passwd"),
        ("--acl-file", None, "can't read ACL file"),
        ("--acl-file", "let everybody in\n", "wrong.file: ACL line 1"),
        ("--certfile", "no certificate\n", "can't use the broker's TLS files"),
        ("--keyfile", "no key\n", "keyfile needs its certfile"),
    ],
)
def test_a_wrong_file_is_named_in_a_sentence_and_nothing_is_served(
    option: str, content: str | None, words: str, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.file"
    if content is not None:
        wrong.write_text(content)
    done = subprocess.run(
        [*BROKER_SERVE, option, str(wrong)],
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        env={**clean_environment(), "ANTIPHON_BROKER__PORT": str(BrokerServe(tmp_path).port)},
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_it_leaves_in_order_when_it_is_asked_to(tmp_path: Path) -> None:
    (tmp_path / "passwords").touch()
    (tmp_path / "acl").touch()
    with BrokerServe(tmp_path) as server:
        assert server.stop() == 0
        wait_until(lambda: not server.running, what="the end of the process")
