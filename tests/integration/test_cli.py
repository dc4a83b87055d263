"""The command line as people use it: real processes, their output, exit codes and what they leave behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from shared.tensors.codec import codec_named
from tests.conftest import need_binary
from tests.integration.conftest import Reference
from tests.mqtt_clients import Client
from tests.servers import REPOSITORY, ConfiguredMosquitto, ServerProcess, free_port
from tests.waiting import wait_until

PROMPT = "turn on the kitchen lights"
START_TIMEOUT_S = 90.0
RUN_TIMEOUT_S = 60.0
ANTIPHON = [sys.executable, "-m", "ops.cli"]


def environment(bundle: Path) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ANTIPHON_")}
    return {**clean, "ANTIPHON_GENERAL__BUNDLE": str(bundle), "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}


def antiphon(bundle: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ANTIPHON, *arguments],
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        env=environment(bundle),
        cwd=folder,
        check=False,
    )


@contextmanager
def running(bundle: Path, folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen, Path]]:
    """A command in the background with its output in a file; killed with its children at the end."""
    out = folder / "out.log"
    with out.open("wb") as log:
        process = subprocess.Popen(
            [*ANTIPHON, *arguments], stdout=log, stderr=subprocess.STDOUT, env=environment(bundle), cwd=folder
        )
    try:
        yield process, out
    finally:
        for orphan in descendants(process.pid):
            orphan.kill()
        process.kill()
        process.wait(10)


def descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@contextmanager
def up(tiny: Reference, folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen, int]]:
    port = free_port()
    with running(tiny.bundle.path, folder, "up", "--port", str(port), *arguments) as (process, out):
        wait_until(lambda: "ready" in out.read_text(), START_TIMEOUT_S, f"ready: {out.read_text()}")
        yield process, port


def test_up_serves_ask_as_json_and_as_text_and_from_a_file(tiny: Reference, tmp_path: Path):
    with up(tiny, tmp_path, "--workers", "2") as (_, port):
        common = ("--port", str(port), "--max-new-tokens", "8", "--threshold", "1.0")
        done = antiphon(tiny.bundle.path, tmp_path, "ask", PROMPT, "--json", "--codec", "fp32", *common)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert bytes_per_row(answer) >= codec_named("fp32").row_bytes(tiny.bundle.hidden_size)
        assert answer["text"] == tiny.generate(PROMPT, 8)
        assert answer["degraded"] is False
        assert {"action", "tokens", "timings"} <= set(answer)
        assert all({"text", "rung", "confidence"} <= set(token) for token in answer["tokens"])

        shown = antiphon(tiny.bundle.path, tmp_path, "ask", PROMPT, *common)
        assert shown.returncode == 0, shown.stderr
        assert shown.stdout.strip() == tiny.generate(PROMPT, 8).strip()
        assert "cloud 8" in shown.stderr

        prompts = tmp_path / "prompts.jsonl"
        prompts.write_text(f'{json.dumps({"prompt": PROMPT})}\n"good night"\n\n')
        many = antiphon(tiny.bundle.path, tmp_path, "ask", "--file", str(prompts), *common)
        assert many.returncode == 0, many.stderr
        lines = [json.loads(line) for line in many.stdout.splitlines()]
        assert [line["prompt"] for line in lines] == [PROMPT, "good night"]
        assert [line["text"] for line in lines] == [tiny.generate(PROMPT, 8), tiny.generate("good night", 8)]

        wishes = ("--mode", "exact", "--codec", "int8")
        local = antiphon(tiny.bundle.path, tmp_path, "ask", PROMPT, "--local", "--json", *wishes, *common)
        answer = json.loads(local.stdout)
        assert answer["rungs"] == {"cloud": 8}
        assert bytes_per_row(answer) < codec_named("fp16").row_bytes(tiny.bundle.hidden_size)


def bytes_per_row(answer: dict[str, Any]) -> float:
    return float(answer["cloud"]["uplink_bytes"] / answer["cloud"]["uploaded_tokens"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_up_leaves_no_process_behind_however_it_ends(number: signal.Signals, tiny: Reference, tmp_path: Path):
    with up(tiny, tmp_path, "--workers", "2") as (process, _):
        wait_until(lambda: len(descendants(process.pid)) >= 4, 20.0, "broker, two workers, edge")
        children = descendants(process.pid)
        process.send_signal(number)
        status = process.wait(60)  # longer than the stack gives its members
        wait_until(lambda: not any(child.is_running() for child in children), 20.0, "all children gone")
    assert status == (-signal.SIGKILL if number == signal.SIGKILL else 0)


def test_ctrl_c_in_a_terminal_reaches_every_process_and_the_parent_stops_them(
    tiny: Reference, tmp_path: Path
):
    with up(tiny, tmp_path, "--workers", "1") as (process, _):
        children = [
            child for child in descendants(process.pid) if child.name() in {"broker", "worker-1", "edge"}
        ]
        assert len(children) == 3
        for child in children:
            child.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        wait_until(lambda: not any(child.is_running() for child in children), 20.0, "all children gone")


def test_up_starts_a_dead_worker_again(tiny: Reference, tmp_path: Path):
    with up(tiny, tmp_path, "--workers", "1") as (process, port):
        before = {child.pid for child in descendants(process.pid)}
        next(child for child in descendants(process.pid) if child.name() == "worker-1").kill()
        wait_until(lambda: {c.pid for c in descendants(process.pid)} - before, 20.0, "a new worker")

        def by_cloud() -> bool:
            asked = (
                "ask",
                PROMPT,
                "--json",
                "--port",
                str(port),
                "--max-new-tokens",
                "2",
                "--threshold",
                "1.0",
            )
            done = antiphon(tiny.bundle.path, tmp_path, *asked)
            return done.returncode == 0 and json.loads(done.stdout)["rungs"] == {"cloud": 2}

        wait_until(by_cloud, 40.0, "the cloud answers again")


def test_ask_without_any_broker_answers_here_and_says_so(tiny: Reference, tmp_path: Path):
    done = antiphon(
        tiny.bundle.path,
        tmp_path,
        "ask",
        PROMPT,
        "--json",
        "--port",
        str(free_port()),
        "--max-new-tokens",
        "4",
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["degraded"] is True
    assert "broker" in answer["note"]
    assert "answering here" in done.stderr


def test_ask_is_bounded_by_its_timeout_with_an_edge_of_its_own_too(tiny: Reference, tmp_path: Path):
    many = ("--mode", "standalone", "--max-new-tokens", "900", "--timeout", "0.1")
    done = antiphon(tiny.bundle.path, tmp_path, "ask", PROMPT, "--local", *many)
    assert done.returncode == 1
    assert "no answer within 0.1 s" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_up_runs_workers_and_an_edge_against_an_external_broker(
    tiny: Reference, tmp_path: Path, mosquitto_server: ServerProcess
):
    port = str(mosquitto_server.port)
    there = ("up", "--external-broker", "--host", mosquitto_server.host, "--port", port, "--workers", "1")
    with running(tiny.bundle.path, tmp_path, *there) as (process, out):
        wait_until(lambda: "ready" in out.read_text(), START_TIMEOUT_S, f"ready: {out.read_text()}")
        assert "external" in out.read_text()
        assert "broker" not in {child.name() for child in descendants(process.pid)}
        asked = ("ask", PROMPT, "--json", "--port", port, "--max-new-tokens", "2", "--threshold", "1.0")
        done = antiphon(tiny.bundle.path, tmp_path, *asked)
        assert json.loads(done.stdout)["rungs"] == {"cloud": 2}
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert mosquitto_server.running


def test_an_edge_that_is_told_to_stop_answers_every_prompt_in_hand(
    tiny: Reference, tmp_path: Path, embedded_server: ServerProcess
):
    """No worker is there and the edge is patient: SIGTERM finds the prompt in hand and can't wait it out."""
    patience = ("--set", "edge.open_deadline_s=60", "--set", "edge.deadline_s=60")
    serve = (*patience, "edge", "serve", "--port", str(embedded_server.port))
    with (
        Client(embedded_server, "panel") as panel,
        running(tiny.bundle.path, tmp_path, *serve) as (edge, out),
    ):
        wait_until(lambda: "broker_connected" in out.read_text(), START_TIMEOUT_S, "the edge")
        base = "antiphon/v1/home/device/panel"
        panel.subscribe(f"{base}/answer", "antiphon/v1/home/pool/+/open/+/+", qos=1)
        prompt = {"prompt": PROMPT, "id": "1", "threshold": 1.0}
        panel.publish(f"{base}/prompt", json.dumps(prompt).encode(), qos=1)
        assert "/open/" in panel.next(20.0).topic  # the prompt is in hand, and a worker looked for
        edge.terminate()
        failure = json.loads(panel.next(20.0).payload)
        status = edge.wait(20)
    assert failure["error"] == {
        "code": "link",
        "message": "the edge is stopping: ask again",
        "retryable": True,
    }
    assert status == 0


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("ask",), 2, "give either a prompt or --file"),
        (("ask", "x", "--threshold", "3"), 2, "--threshold"),
        (("ask", "x", "--codec", "int5"), 2, "one of fp32, fp16"),
        (("edge", "serve", "--codec", "int5"), 2, "one of fp32, fp16"),
        (("edge", "serve", "--no-cloud"), 2, "there is no home bus either"),
        (("edge", "serve", "--home-bus", "--no-cloud", "--host", "h"), 2, "goes without --host"),
        (("ask", "--file", "missing.jsonl"), 1, "can't read missing.jsonl"),
        (("--set", "edge.codek=int8", "config", "show"), 2, "edge.codec"),
        (("--config", "missing.toml", "config", "show"), 2, "missing.toml"),
        (("model", "info", "missing"), 1, "no bundle 'missing'"),
        (("model", "prepare", "missing", "--exits", "a", "--out", "b"), 2, "--exits 8,16"),
        (("nonsense",), 2, "nonsense"),
        (("up", "--host", "203.0.113.7"), 2, "--external-broker"),
        (("broker", "serve", "--host", "203.0.113.7"), 2, "--host 127.0.0.1"),
        (("ask", "--file", "no[/bold].jsonl"), 1, "can't read no[/bold].jsonl"),
    ],
)
def test_mistakes_get_a_sentence_and_an_exit_code_and_no_traceback(
    arguments: tuple[str, ...], status: int, words: str, tiny: Reference, tmp_path: Path
):
    done = antiphon(tiny.bundle.path, tmp_path, *arguments)
    assert done.returncode == status, done.stderr
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_up_says_when_its_port_is_taken(tiny: Reference, tmp_path: Path, embedded_server):
    done = antiphon(tiny.bundle.path, tmp_path, "up", "--port", str(embedded_server.port))
    assert done.returncode == 2
    assert "another broker" in done.stderr


def test_config_show_names_each_values_source(tiny: Reference, tmp_path: Path):
    (tmp_path / "antiphon.toml").write_text("[broker]\nport = 1999\npassword = 'hush'\nusername = 'me'\n")
    done = antiphon(tiny.bundle.path, tmp_path, "--set", "edge.codec=int8", "config", "show", "--json")
    lines = {line["key"]: line for line in json.loads(done.stdout)}
    assert lines["broker.port"]["value"] == "1999"
    assert "antiphon.toml" in lines["broker.port"]["source"]
    assert "ANTIPHON_GENERAL__BUNDLE" in lines["general.bundle"]["source"]
    assert lines["edge.codec"]["source"].startswith("command line")
    assert lines["edge.threads"]["source"] == "default"
    assert "hush" not in done.stdout


def test_prepare_and_info_show_what_a_bundle_holds(tiny: Reference, tmp_path: Path):
    checkpoint = tiny.bundle.path.parent / "checkpoint"
    prepared = antiphon(
        tiny.bundle.path, tmp_path, "model", "prepare", str(checkpoint), "--exits", "1,3", "--out", "made"
    )
    assert prepared.returncode == 0, prepared.stderr
    assert (tmp_path / "made" / "manifest.json").is_file()
    shown = antiphon(tiny.bundle.path, tmp_path, "model", "info", "made", "--json", "--verify")
    assert json.loads(shown.stdout)["partition"]["exits"] == [1, 3]
    again = antiphon(
        tiny.bundle.path, tmp_path, "model", "prepare", str(checkpoint), "--exits", "1,3", "--out", "made"
    )
    assert again.returncode == 1
    assert "--force" in again.stderr


def test_a_generated_mosquitto_configuration_serves_named_users_under_its_rules(
    tiny: Reference, tmp_path: Path
):
    need_binary("mosquitto_passwd", "mosquitto")
    port = free_port()
    wishes = ("--out", "mq", "--port", str(port), "--address", "127.0.0.1", "--edges", "hub")
    made = antiphon(tiny.bundle.path, tmp_path, "broker", "config", "mosquitto", *wishes, "--workers", "w1")
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "mq"
    for number, user in enumerate(("hub", "w1", "panel")):
        create = ["-c"] if number == 0 else []
        secrets = [*create, "-b", str(folder / "antiphon.passwd"), user, f"secret-{user}"]
        subprocess.run(["mosquitto_passwd", *secrets], check=True, timeout=10)
    with ConfiguredMosquitto(folder, (folder / "mosquitto.conf").read_text(), port):
        common = ("--set", "broker.username={}", "--set", "broker.password=secret-{}")

        def as_user(user: str) -> list[str]:
            return ["--set", f"broker.port={port}", *(word.format(user) for word in common)]

        worker = [*as_user("w1"), "worker", "serve", "--id", "w1"]
        edge = [*as_user("hub"), "edge", "serve"]
        (tmp_path / "w").mkdir()
        (tmp_path / "e").mkdir()
        with (
            running(tiny.bundle.path, tmp_path / "w", *worker) as (_, worker_out),
            running(tiny.bundle.path, tmp_path / "e", *edge) as (_, edge_out),
        ):
            for out in (worker_out, edge_out):
                wait_until(lambda out=out: "broker_connected" in out.read_text(), START_TIMEOUT_S, str(out))
            base = "antiphon/v1/home/device/panel"
            prompt = json.dumps({"prompt": PROMPT, "max_new_tokens": 2, "threshold": 1.0})
            device = ["mosquitto_rr", "-V", "5", "-p", str(port), "-u", "panel", "-P", "secret-panel"]
            asks = ["-t", f"{base}/prompt", "-e", f"{base}/answer", "-q", "1", "-m", prompt, "-W", "30"]
            answer = subprocess.run([*device, *asks], capture_output=True, check=True, timeout=RUN_TIMEOUT_S)
    assert json.loads(answer.stdout)["rungs"] == {"cloud": 2}
