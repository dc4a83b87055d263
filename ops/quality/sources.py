"""Where questions come from: generated or written requests to homes, or texts to go on with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

import ops.home
from edge_agent.home.grammar import ActionGrammar
from edge_agent.home.home import Home, load_home
from edge_agent.home.prompt import answer_text
from edge_agent.task import HomeActionTask, home_grammar
from ops.home.sample import Sample, load_exam
from ops.tuning.text import documents
from shared.errors import ConfigError
from shared.model.bundle import Bundle

# Requests as people say them, blind to the templates; see the README beside them.
NATURAL: Final = Path(ops.home.__file__).parent / "natural" / "requests.jsonl"

# Each use of generated requests has its own: what is calibrated on is never what is reported on.
CALIBRATION_SEED: Final = 20_260_202
REPORT_SEED: Final = 20_260_303


@dataclass(frozen=True)
class Request:
    """A request to a home.

    Attributes:
        home: where it is asked; many requests share one.
        text: what is said.
        right: actions that answer it, each as right as the others; several actions are a list.
    """

    home: Home
    text: str
    right: tuple[Any, ...]


class Tasks:
    """One task for each home, made once; all share a grammar's memory of tokens."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._grammar: ActionGrammar | None = None
        self._by_home: dict[int, tuple[Home, HomeActionTask]] = {}

    def of(self, home: Home) -> HomeActionTask:
        """The task of a home object."""
        if id(home) not in self._by_home:
            self._grammar = self._grammar or home_grammar(self._bundle)
            # The home is kept beside its task: its id stays its own.
            self._by_home[id(home)] = (home, HomeActionTask(self._bundle, home, self._grammar))
        return self._by_home[id(home)][1]


def generated(tasks: Tasks, count: int, seed: int) -> list[Request]:
    """Requests in homes and phrasings that training never sees, each in a home of its own.

    A promise counts on texts that know nothing of each other: those of one home share its names.
    """
    from ops.home.samples import SampleMaker
    from ops.home.templates import Grammar

    maker = SampleMaker(Grammar(), seed, held_out=True, per_home=1)
    return [_request(tasks, maker.draw()) for _ in range(count)]


def exams(tasks: Tasks, paths: Sequence[Path]) -> list[Request]:
    """Requests from exam files, a home with its requests on each line.

    Raises:
        ConfigError: a file can't be read as such.
    """
    found = []
    for path in paths:
        try:
            found += [_request(tasks, sample) for sample in load_exam(path)]
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(
                f"{path} is no exam: {error}. A home bundle's texts are JSON lines with a home and its "
                'requests: {"home": …, "asks": [{"category": …, "request": …, "action": …}]}'
            ) from error
    return found


class _Written(msgspec.Struct, frozen=True):
    home: str
    request: str
    action: Any
    accept: list[Any] = []


def written(path: Path) -> list[Request]:
    """Requests that people wrote, in homes that are files in `homes/` beside `path`.

    Raises:
        ConfigError: the file can't be read as such.
        HomeError: a home can't.
    """
    homes: dict[str, Home] = {}
    found = []
    try:
        for line in path.read_bytes().splitlines():
            ask = msgspec.json.decode(line, type=_Written)
            if ask.home not in homes:
                homes[ask.home] = load_home(path.parent / "homes" / f"{ask.home}.yaml")
            found.append(Request(homes[ask.home], ask.request, (ask.action, *ask.accept)))
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{path} holds no written requests: {error}. See ops/home/natural.") from error
    return found


def texts(paths: Sequence[Path], field: str | None) -> list[str]:
    """Documents of text files and JSON lines.

    Raises:
        ConfigError: a file can't be read, or none has any text.
    """
    found = [document.text for document in documents(paths, field)]
    if not found:
        raise ConfigError(f"{', '.join(map(str, paths))}: no text in there. Give files with text.")
    return found


def _request(tasks: Tasks, sample: Sample) -> Request:
    """The sample's action as a device would get it, with shorthand written out."""
    right = tasks.of(sample.home).read(sample.request, answer_text(sample.action)).action
    return Request(sample.home, sample.request, (right,))
