"""Fuzzing by hand: `python -m tests.fuzz all --runs 1000000`, or the name of one target.

all | TARGET…   run, one process per target, and print a table; ends with 1 if anything broke
seed            write the corpus anew from the targets' seeds
list            name the targets
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
from pathlib import Path

import msgspec
import structlog

from tests.fuzz.engines import blind, has_atheris, led
from tests.fuzz.judge import Tally
from tests.fuzz.seeds import write_corpus
from tests.fuzz.table import table
from tests.fuzz.target import Target, every_target

KEPT = Path("runs/fuzz")


def main() -> int:
    """Run what the command line asks for."""
    asked = _arguments()
    match asked.targets:
        case ["seed"]:
            write_corpus()
            return 0
        case ["list"]:
            print(*(target.name for target in every_target()), sep="\n")
            return 0
    KEPT.mkdir(parents=True, exist_ok=True)
    if asked.alone:
        _run_here(asked)
        return 0
    return _run_each(asked)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="+", help="all, seed, list, or names of targets")
    parser.add_argument("--runs", type=int, default=100_000, help="executions per target")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of inputs")
    parser.add_argument("--blind", action="store_true", help="our own mutations even where Atheris is there")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _run_here(asked: argparse.Namespace) -> None:
    name = asked.targets[0]
    # What the broker logs of each hostile client would be most of the work.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if has_atheris() and not asked.blind:
        led(name, asked.runs, asked.seed, KEPT, _report)
    else:
        _report(blind(name, asked.runs, asked.seed, KEPT))


def _report(tally: Tally) -> None:
    _result(tally.target).write_bytes(msgspec.json.encode(tally))


def _run_each(asked: argparse.Namespace) -> int:
    chosen = [target for target in every_target() if target.name in asked.targets or asked.targets == ["all"]]
    tallies = []
    for target in chosen:
        tallies.append(_in_a_process(target, asked))
        print(table(tallies[-1:], head=len(tallies) == 1), flush=True)
    (KEPT / "table.json").write_bytes(msgspec.json.encode(tallies))
    return 1 if any(tally.crashes for tally in tallies) else 0


def _in_a_process(target: Target, asked: argparse.Namespace) -> Tally:
    """One target in a process of its own: its memory is its own, and a native crash ends nobody else."""
    name, runs = target.name, int(asked.runs * target.share)
    result = _result(name)
    result.unlink(missing_ok=True)
    blindly = ["--blind"] if asked.blind or target.native else []
    options = ["--runs", str(runs), "--seed", str(asked.seed), *blindly]
    with (KEPT / f"{name}.log").open("wb") as log:
        command = [sys.executable, "-m", "tests.fuzz", name, "--alone", *options]
        status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if result.exists():
        return msgspec.json.decode(result.read_bytes(), type=Tally)
    return Tally(name, "?", crashes=1, failure=f"the process ended with {status}, see {KEPT}/{name}.log")


def _result(name: str) -> Path:
    return KEPT / f"{name}.json"


sys.exit(main())
