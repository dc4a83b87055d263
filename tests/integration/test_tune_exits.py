"""`antiphon model tune-exits` as people run it: real processes, real kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ops.prepare import prepare
from shared.model.bundle import Bundle
from shared.model.manifest import EXITS_FILE
from tests.parity.cases import case_named
from tests.parity.checkpoints import save_checkpoint
from tests.servers import REPOSITORY
from tests.tuning_texts import spoil_exits, write_text
from tests.waiting import wait_until

START_TIMEOUT_S = 90.0
RUN_TIMEOUT_S = 90.0
# bf16 and a low-rank head: random first weights, rounding and the order of sums all have to come back.
SETTINGS = ["--head", "lora", "--rank", "8", "--dtype", "bfloat16", "--lr", "0.002", "--seed", "11"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    checkpoint = save_checkpoint(case_named("qwen3").model(), folder / "checkpoint")
    prepare(checkpoint, [2, 4], None, folder / "bundle", name="tiny")
    spoil_exits(folder / "bundle")
    write_text(folder / "text.jsonl", 900)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "work", ignore=shutil.ignore_patterns("checkpoint")))


def command(folder: Path, *arguments: str, tokens: int = 15_000) -> list[str]:
    tune = [sys.executable, "-m", "ops.cli", "model", "tune-exits", str(folder / "bundle")]
    budget = ["--tokens", str(tokens), "--batch-tokens", "256", "--context", "64", "--held-out-tokens", "300"]
    return [*tune, *budget, "--text", str(folder / "text.jsonl"), *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


def run(arguments: list[str], text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        arguments, input=text, capture_output=True, timeout=RUN_TIMEOUT_S, env=environment(), check=False
    )


def stop_after_checkpoints(arguments: list[str], checkpoint: Path, count: int, number: int) -> int:
    """Start, send signal `number` once that many new checkpoints have been seen, and return the exit code."""
    seen: set[int] = set()

    def enough() -> bool:
        if process.poll() is not None:
            return True
        if checkpoint.exists():
            seen.add(checkpoint.stat().st_mtime_ns)
        return len(seen) > count

    with subprocess.Popen(arguments, env=environment(), stderr=subprocess.DEVNULL) as process:
        wait_until(enough, timeout_s=START_TIMEOUT_S)
        process.send_signal(number)
        return process.wait(RUN_TIMEOUT_S)


def test_killed_runs_that_go_on_end_with_the_weights_of_an_unbroken_one(folder: Path) -> None:
    unbroken = run(
        [*command(folder, *SETTINGS), "--run", str(folder / "r1"), "--out", str(folder / "unbroken")]
    )
    assert unbroken.returncode == 0, unbroken.stderr.decode()

    checkpoint = folder / "r2" / "tuning.pt"
    broken = [*command(folder, *SETTINGS), "--run", str(folder / "r2"), "--out", str(folder / "broken")]
    for count in (2, 9):
        killed = stop_after_checkpoints([*broken, "--checkpoint-s", "0"], checkpoint, count, signal.SIGKILL)
        assert killed == -signal.SIGKILL
        assert not (folder / "broken").exists()
    finished = run(broken)
    assert finished.returncode == 0, finished.stderr.decode()

    one, other = (folder / name / EXITS_FILE for name in ("unbroken", "broken"))
    assert one.read_bytes() == other.read_bytes()
    assert one.read_bytes() != (folder / "bundle" / EXITS_FILE).read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_asked_to_stop_keeps_its_last_step(folder: Path, number: int, code: int) -> None:
    """Asked between two checkpoints, it writes one more before it leaves."""
    arguments = [*command(folder, tokens=10_000_000), "--run", str(folder / "run")]
    checkpoint = folder / "run" / "tuning.pt"
    assert stop_after_checkpoints([*arguments, "--checkpoint-s", "0.2"], checkpoint, 1, number) == code
    assert checkpoint.exists()
    assert Bundle.open(folder / "bundle").manifest.exits[0].head == "norm"


def test_the_report_shows_every_exit_before_and_after(folder: Path) -> None:
    report = folder / "report.json"
    done = run([*command(folder, "--lr", "0.003"), "--run", str(folder / "run"), "--json", str(report)])
    assert done.returncode == 0, done.stderr.decode()
    assert b"antiphon model calibrate" in done.stdout
    written = json.loads(report.read_text())
    assert [each["layer"] for each in written["exits"]] == [2, 4]
    for each in written["exits"]:
        assert each["after"]["nll"] < each["before"]["nll"]
    tuned = Bundle.open(folder / "bundle")
    tuned.verify()
    assert tuned.thresholds == [1.0, 1.0]


def test_standard_input_is_learned_like_a_file(folder: Path) -> None:
    tune = command(folder, "--run", str(folder / "run"), "--jsonl-field", "text", tokens=3000)
    tune[tune.index(str(folder / "text.jsonl"))] = "-"
    done = run(tune, (folder / "text.jsonl").read_bytes())
    assert done.returncode == 0, done.stderr.decode()
    assert list((folder / "run").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--jsonl-field", "body"], "has no text in the field body; it has: text"),
        (["--exits", "3"], "no exit after layer 3"),
        (["--head", "song"], "is not one of"),
        (["--text", "nowhere.txt"], "there is no such file"),
    ],
)
def test_what_can_not_be_tuned_is_refused_in_a_sentence(
    folder: Path, arguments: list[str], says: str
) -> None:
    refused = run([*command(folder, *arguments), "--run", str(folder / "run")])
    assert refused.returncode == 2
    assert says in " ".join(refused.stderr.decode().split())
    assert b"Traceback" not in refused.stderr


def test_an_existing_folder_is_refused_before_anything_is_learned(folder: Path) -> None:
    refused = run([*command(folder), "--run", str(folder / "run"), "--out", str(folder / "bundle")])
    assert refused.returncode == 1
    assert b"--force" in refused.stderr
    assert not (folder / "run").exists()
