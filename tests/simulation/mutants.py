"""Bugs to plant: each is one line of the protocol written wrongly, as a slip might write it."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cloud_worker.session import WorkerSession
from edge_agent.cloud_session import CloudSession
from edge_agent.decode import DecodeLoop
from edge_agent.in_flight import InFlight
from edge_agent.upload import Upload
from shared.context import memory
from shared.context.write_behind import WriteBehindLog
from tests.simulation.toy_model import ToyEngine


@dataclass(frozen=True, slots=True)
class Mutant:
    """A method with one line of its source changed.

    Attributes:
        name: what the planted bug does.
        owner, method: whose line.
        right, wrong: the line's text before and after.
    """

    name: str
    owner: type
    method: str
    right: str
    wrong: str

    def __str__(self) -> str:
        return self.name.replace(" ", "-")

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Run with the bug."""
        before = self.owner.__dict__[self.method]
        setattr(self.owner, self.method, self._rewritten())
        try:
            yield
        finally:
            setattr(self.owner, self.method, before)

    def _rewritten(self) -> Any:
        unwrapped = inspect.unwrap(getattr(self.owner, self.method))
        source = textwrap.dedent(inspect.getsource(unwrapped))
        if self.right not in source:
            raise ValueError(
                f"{self.owner.__name__}.{self.method} has no {self.right!r} any more: adapt the mutant"
            )
        namespace: dict[str, Any] = {}
        code = f"from __future__ import annotations\n{source.replace(self.right, self.wrong)}"
        exec(
            compile(code, f"<mutant: {self.name}>", "exec"),
            vars(sys.modules[self.owner.__module__]),
            namespace,
        )
        return namespace[self.method]


# What is not here is harmless, since another check stands behind it: the engine sees a gap that the session
# does not see, a step that is run twice draws the same token, a Resume that is believed late costs time.
MUTANTS = (
    Mutant(
        "the edge believes words of old epochs",
        CloudSession,
        "on_message",
        "message.epoch != self.epoch",
        "False",
    ),
    Mutant(
        "tokens of an old step are believed",
        CloudSession,
        "_on_tokens",
        "self._in_flight.is_unanswered(message.number, drawn.position)",
        "drawn.position in self._wants",
    ),
    Mutant("what is taken back is waited for", InFlight, "rewind", "if each < position}", "}"),
    Mutant(
        "the edge opens again in the old epoch", CloudSession, "_reopen", "self.epoch += 1", "self.epoch |= 1"
    ),
    Mutant(
        "a position that the worker has is not sent again",
        Upload,
        "steps",
        "min([self.sent, *(want.position for want in wants[:1])])",
        "self.sent",
    ),
    Mutant("a rewind is not told to the upload", CloudSession, "rewind", "self._upload.rewind(position)", ""),
    Mutant(
        "what is rewritten is forgotten at a new worker",
        Upload,
        "begin",
        "[_Rewind(0, each.position) for each in self._rewinds[:1]]",
        "[]",
    ),
    Mutant(
        "a guess about a taken back text is kept",
        DecodeLoop,
        "on_guess",
        "if self.is_rewound:",
        "if False:",
    ),
    Mutant("a question survives its text", DecodeLoop, "_correct", "self._coming = None", "pass"),
    Mutant(
        "an answer that comes before its guess is forgotten", DecodeLoop, "on_guess", "self._coming or ", ""
    ),
    Mutant(
        "the worker takes steps of any epoch",
        WorkerSession,
        "judge",
        "if step.epoch != self.epoch:",
        "if False:",
    ),
    Mutant(
        "a take-over keeps the old epoch's step numbers",
        WorkerSession,
        "take_over",
        "self.last_number = 0",
        "pass",
    ),
    Mutant("the cache is not cut back", ToyEngine, "_truncate", "del rows[position:]", "pass"),
    Mutant("the log is not cut back", memory._Entry, "truncate", "while self.records and", "while False and"),
)

# What an upload alone shows, in histories so short that a hundred thousand are a matter of seconds.
UPLOAD_MUTANTS = (
    Mutant("a step does not name the one before it", Upload, "_step", "self._number + 1\n", "0\n"),
    Mutant(
        "a worker is believed whatever was rewritten",
        Upload,
        "resume_at",
        "if rewind.number >= taken",
        "if False",
    ),
    Mutant(
        "the rewind behind the newest step is forgotten",
        Upload,
        "resume_at",
        "rewind.number >= taken",
        "rewind.number > taken",
    ),
    Mutant(
        "what is rewritten is forgotten with the next rewind",
        Upload,
        "rewind",
        "self._rewinds[-1].position >= position",
        "True",
    ),
    Mutant(
        "what is rewritten is forgotten in a new epoch",
        Upload,
        "begin",
        "[_Rewind(0, each.position) for each in self._rewinds[:1]]",
        "[]",
    ),
    Mutant(
        "the step that a step builds on is not checked",
        WorkerSession,
        "judge",
        "step.after > self.last_number or ",
        "",
    ),
)

# What takes the whole of a worker, or a great deal of bad weather, to matter.
STORM_MUTANTS = (
    Mutant(
        "squeezed rows are taken for rows",
        WorkerSession,
        "judge",
        "self._work(step, plain.states, now_s)",
        "self._work(step, step.states, now_s)",
    ),
    Mutant(
        "whole steps and squeezed ones are not told apart",
        Upload,
        "_step",
        "packed.codec,",
        "self._codec,",
    ),
    Mutant(
        "the edge never leaves a silent worker",
        InFlight,
        "again",
        "now_s >= awaited.leave_s for",
        "False for",
    ),
    Mutant(
        "the log takes any epoch",
        memory.MemoryContextStore,
        "_fenced",
        "if entry.epoch > epoch:",
        "if False:",
    ),
    Mutant("what is evicted stays logged", WriteBehindLog, "release", "session.leaving = True", "return"),
    Mutant("the writer's backlog is not counted down", WriteBehindLog, "_drop", "backlog.clear()", "pass"),
)
