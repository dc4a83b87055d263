"""Random histories of an upload and a worker's session alone: nothing is drawn, no time passes.

What has to hold: whenever a worker takes a step, its rows up to the step's end are those that the text had
when the step went up. Whatever it answers then is drawn from the right rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from cloud_worker.session import Accept, Gap, WorkerSession
from edge_agent.states import StateLog
from edge_agent.upload import Upload
from shared.wire.messages import Resume, Sampling, Step
from shared.wire.topics import SessionAddress

ADDRESS = SessionAddress("home", "hub", "s")
ROW_BYTES = 2
PROMPT = 2
STEPS = 60
# How often a history does each of these.
ACTS: dict[str, int] = {
    "grow": 1,
    "rewind": 1,
    "send": 2,
    "deliver": 3,
    "lose": 1,
    "double": 1,
    "hear": 2,
    "open": 1,
    "seat_again": 1,
}
# Of what ends a worker's belief, most is left out: a session has to be some steps long.
RARELY = 0.2


@dataclass(slots=True)
class UploadWalk:
    """An edge that grows and rewinds a text, and whatever worker it has.

    Attributes:
        story: what happened.
        wrong: steps that were taken on rows of another text.
    """

    random: Random
    story: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    _states: StateLog = field(default_factory=lambda: StateLog(ROW_BYTES))
    _version: int = 0
    _epoch: int = 0
    _steps: list[Step] = field(default_factory=list)
    _words: list[Resume] = field(default_factory=list)
    _texts: dict[tuple[int, int], bytes] = field(default_factory=dict)  # below each step's end
    _logs: list[bytes] = field(default_factory=lambda: [b""])  # whatever any worker has held
    _rows: bytes = b""
    _upload: Upload = field(init=False)
    _session: WorkerSession = field(init=False)

    def __post_init__(self) -> None:
        self._upload = Upload(self._states, "fp32")
        self._grow(PROMPT)
        self._open()

    def run(self) -> None:
        """Go all the way."""
        for act in self.random.choices(list(ACTS), list(ACTS.values()), k=STEPS):
            self._do(act)

    def _do(self, act: str) -> None:
        match act:
            case "grow":
                self._grow(self.random.randint(1, 3))
            case "rewind" if self._states.frontier > PROMPT:
                self._rewind(self.random.randint(PROMPT, self._states.frontier - 1))
            case "send":
                self._send()
            case "deliver" if self._steps:
                self._deliver(self._steps.pop(self._place(len(self._steps))))
            case "lose" if self._steps:
                self._steps.pop(self._place(len(self._steps)))
            case "double" if self._steps:
                self._steps.append(self.random.choice(self._steps))
            case "hear" if self._words:
                self._hear(self._words.pop(self._place(len(self._words))))
            case "open" if self.random.random() < RARELY:
                self._open()
            case "seat_again" if self.random.random() < RARELY:
                self._seat()

    def _place(self, count: int) -> int:
        """Mostly the first."""
        return 0 if self.random.random() < 0.6 else self.random.randrange(count)

    def _grow(self, rows: int) -> None:
        for _ in range(rows):
            self._version += 1
            self._states.append(self._version.to_bytes(ROW_BYTES, "big"))

    def _rewind(self, position: int) -> None:
        self.story.append(f"rewind {position} of {self._states.frontier}")
        self._states.truncate(position)
        self._upload.rewind(position)
        self._grow(1)

    def _send(self) -> None:
        for step in self._upload.steps([], self._states.frontier):
            self.story.append(f"send {_told(step)}")
            self._steps.append(step)
            self._texts[step.epoch, step.number] = self._states.rows(0, step.from_position + step.count)

    def _deliver(self, step: Step) -> None:
        verdict = self._session.judge(step, 0.0)
        self.story.append(f"deliver {_told(step)}: {type(verdict).__name__}")
        if isinstance(verdict, Gap):
            self._words.append(Resume(step.epoch, step.number, verdict.frontier, verdict.taken))
        elif isinstance(verdict, Accept):
            self._rows = self._rows[: step.from_position * ROW_BYTES] + step.states
            self._logs.append(self._rows)
            if self._rows != self._texts[step.epoch, step.number]:
                self.wrong.append(_told(step))

    def _hear(self, word: Resume) -> None:
        if word.epoch == self._epoch and self._upload.is_current(word.number):
            self.story.append(f"hear {word}")
            self._upload.resume_at(word.frontier, word.taken)

    def _open(self) -> None:
        """A new epoch, at some worker."""
        self._epoch += 1
        self._upload.begin(self._epoch)
        self._seat()
        self._upload.open_at(self._session.frontier)

    def _seat(self) -> None:
        """A worker takes the session in, maybe twice in an epoch, from whatever log there is."""
        log = self.random.choice(self._logs)
        frontier = self.random.randint(0, len(log) // ROW_BYTES)
        self._rows = log[: frontier * ROW_BYTES]
        self._session = WorkerSession(ADDRESS, self._epoch, "fp32", Sampling(), 4096, 0.0, frontier)
        self.story.append(f"seat in epoch {self._epoch} at {frontier}")


def _told(step: Step) -> str:
    return f"{step.epoch}/{step.number} from {step.from_position} count {step.count} after {step.after}"


def walk(seed: int) -> UploadWalk:
    """The history of a seed."""
    history = UploadWalk(Random(f"upload/{seed}"))
    history.run()
    return history
