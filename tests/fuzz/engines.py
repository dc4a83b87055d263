"""Who chooses inputs: Atheris, led by coverage, or our own blind mutations."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from random import Random

from tests.fuzz.judge import InputError, Judge, Tally
from tests.fuzz.mutate import mutated, mutations
from tests.fuzz.target import Target, target_named

# Pure Python that reads what a stranger wrote; msgspec and torch are native and show no coverage.
INSTRUMENTED = ["shared", "broker", "cloud_worker", "edge_agent", "yaml", "tomllib"]


def has_atheris() -> bool:
    """Whether Atheris is installed here."""
    return importlib.util.find_spec("atheris") is not None


def blind(name: str, runs: int, seed: int, kept: Path) -> Tally:
    """The corpus, then damaged copies of it; ends at the first input that breaks the target."""
    judge = Judge(target_named(name), "mutation", kept)
    with contextlib.suppress(InputError):
        feed(judge, judge.target, runs, seed)
    return judge.finish()


def feed(judge: Callable[[bytes], None], target: Target, runs: int, seed: int) -> None:
    """Give a judge the corpus and then mutations, `runs` in all."""
    corpus = target.inputs()
    for data in corpus[:runs]:
        judge(data)
    for data in islice(mutations(corpus, seed, target.max_bytes), max(0, runs - len(corpus))):
        judge(data)


def led(name: str, runs: int, seed: int, kept: Path, report: Callable[[Tally], None]) -> None:
    """The same by Atheris. libFuzzer ends the process itself, so the tally is reported from within."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        target = target_named(name)
    judge = Judge(target, "atheris", kept)

    def one_input(data: bytes) -> None:
        try:
            judge(data)
        except InputError:
            report(judge.finish())
            raise
        if judge.tally.executions == runs:
            report(judge.finish())

    corpus = target.inputs()

    def mutator(data: bytes, max_bytes: int, choice: int) -> bytes:
        """Every other input is the corpus, damaged in our way: few of libFuzzer's pass native decoders."""
        if choice % 2:
            return bytes(atheris.Mutate(data, max_bytes))
        random = Random(choice)
        return mutated(random.choice(corpus), random, corpus)[:max_bytes]

    atheris.Setup(["fuzz", *_options(target, runs, seed, kept)], one_input, custom_mutator=mutator)
    atheris.Fuzz()


def _options(target: Target, runs: int, seed: int, kept: Path) -> list[str]:
    """For libFuzzer. The first folder takes inputs that reach new code: the corpus itself stays as it is."""
    found = kept / "found" / target.name
    found.mkdir(parents=True, exist_ok=True)
    limits = [f"-runs={runs}", f"-seed={seed}", f"-max_len={target.max_bytes}", "-rss_limit_mb=4096"]
    return [
        *limits,
        "-verbosity=0",
        f"-artifact_prefix={kept}/{target.name}.",
        str(found),
        str(target.corpus),
    ]
