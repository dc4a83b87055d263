"""The transport bench compares like with like, and fails over a wrong answer."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from ops.bench.transport.far import far_end
from ops.bench.transport.measure import Measured, Which, brokers_here
from ops.bench.transport.question import Size, answer, check, question, size_of
from ops.bench.transport.stages import Stages
from ops.bench.transport.tcp_echo import TcpEcho
from ops.bench.transport.yardstick import timed
from ops.event_loop import loop_factory, run
from shared.errors import LinkError
from shared.wire.codec import encode
from shared.wire.messages import Step
from tests.servers import HOST, free_port


@pytest.mark.parametrize("states", [64, 4_096, 65_536])
def test_an_echo_carries_as_much_as_a_step_and_its_reply(states: int):
    size = size_of(states)
    assert size.up == len(encode(Step(1, 300, 300, 1, bytes(states), [300])))
    assert len(question(size)) == size.up
    assert len(answer(question(size))) == size.down < 64


def test_an_answer_that_is_not_the_question_s_fails_the_bench():
    asked = question(Size(64, 80, 30))
    check(asked, asked[:30])
    for wrong in (b"", asked[:29], asked[:31], bytes(30)):
        with pytest.raises(LinkError, match="not the question's"):
            check(asked, wrong)


def test_ratios_are_taken_round_by_round():
    step, echo = Which("step", "b", 0, 64), Which("echo", "b", 0, 64)
    measured = Measured({step: [[2.0, 2.0, 9.0], [6.0]], echo: [[1.0], [2.0]]})
    assert measured.ratios(step, echo) == [2.0, 3.0]
    assert measured.all_s(step) == [2.0, 2.0, 9.0, 6.0]


def test_the_embedded_broker_can_be_measured_everywhere():
    assert brokers_here(embedded=True) == ["embedded"]
    assert brokers_here(embedded=False)[0] == "embedded"


async def test_a_far_end_answers_from_a_process_of_its_own():
    port = free_port()
    async with far_end("tcp", port), TcpEcho.connected(HOST, port) as echo:
        seconds = await echo.trips(size_of(64), 3)
    assert len(seconds) == 3
    assert all(each > 0 for each in seconds)


async def test_answers_that_do_not_come_end_the_bench(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ops.bench.transport.yardstick.TIMEOUT_S", 0.01)
    with pytest.raises(LinkError, match="0 of 5"):
        await timed(asyncio.Event().wait, 5)  # type: ignore[arg-type]


async def test_every_stage_of_a_step_s_way_is_timed():
    table = (await Stages.measured(size_of(64))).table()
    stages = [str(row["stage"]) for row in table.rows]
    assert len(stages) == len(set(stages)) >= 9
    assert {stage.split(":")[0] for stage in stages} >= {"edge", "worker", "socket"}


def test_without_uvloop_asyncio_s_own_loop_is_used(monkeypatch: pytest.MonkeyPatch):
    async def loop_class() -> type[asyncio.AbstractEventLoop]:
        return type(asyncio.get_running_loop())

    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory() is None
    assert run(loop_class()).__module__.startswith("asyncio")


def test_with_uvloop_its_loop_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "uvloop.py").write_text(
        "import asyncio\nclass Loop(asyncio.SelectorEventLoop): pass\nnew_event_loop = Loop\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "uvloop", raising=False)

    async def loop_class() -> str:
        return type(asyncio.get_running_loop()).__module__

    try:
        assert run(loop_class()) == "uvloop"
    finally:
        sys.modules.pop("uvloop", None)
