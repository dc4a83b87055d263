"""Workers that leave, hang and run short of memory; tenants that share a broker."""

from __future__ import annotations

import asyncio
import signal
from itertools import chain

import pytest

from tests.integration.conftest import Install, Installation, Reference
from tests.integration.restarting import restart, send_signal
from tests.servers import RedisServer, ServerProcess
from tests.waiting import eventually

PROMPTS = [f"what is the temperature in room {number}" for number in range(8)]
NEW_TOKENS = 60
ROLLING_TOKENS = 40


def texts(answers: list[dict]) -> list[str]:
    return [answer["output"] for answer in answers]


async def test_a_worker_that_is_told_to_stop_leaves_no_answer_degraded(
    install: Install, tiny: Reference, own_broker: ServerProcess
):
    expected = [tiny.generate(prompt, NEW_TOKENS) for prompt in PROMPTS]
    async with install(own_broker, tiny.bundle.path, workers=2) as home:
        asked = asyncio.create_task(home.ask_all(PROMPTS, threshold=1.0, max_new_tokens=NEW_TOKENS))
        await asyncio.sleep(0)
        send_signal(home, "worker-1", signal.SIGTERM)
        answers = await asked
        await eventually(lambda: home.readiness.workers == {"worker-2"}, 20.0, "worker-1 says farewell")
        await eventually(lambda: not home.stack.members["worker-1"].alive, 20.0, "worker-1 ends")
        assert home.stack.members["worker-1"].process.exitcode == 0
    assert texts(answers) == expected
    assert not any(answer["degraded"] for answer in answers)


async def test_a_worker_that_hangs_is_left_behind_and_its_late_words_change_nothing(
    install: Install, tiny: Reference, own_broker: ServerProcess
):
    expected = [tiny.generate(prompt, NEW_TOKENS) for prompt in PROMPTS]
    given = {"edge__step_deadline_s": 1.0, "edge__open_deadline_s": 1.0}
    async with install(own_broker, tiny.bundle.path, workers=2, **given) as home:
        send_signal(home, "worker-1", signal.SIGSTOP)
        try:
            answers = await home.ask_all(PROMPTS, threshold=1.0, max_new_tokens=NEW_TOKENS)
        finally:
            send_signal(home, "worker-1", signal.SIGCONT)
        again = await home.ask_all(PROMPTS, threshold=1.0, max_new_tokens=NEW_TOKENS)
    assert texts(answers) == texts(again) == expected
    assert not any(answer["degraded"] for answer in answers)


async def test_sessions_that_were_evicted_for_memory_come_back_with_the_same_text(
    install: Install, tiny: Reference, embedded_server: ServerProcess
):
    prompts = [f"{number} " + "is anybody home? " * 30 for number in range(8)]
    expected = [tiny.generate(prompt, NEW_TOKENS) for prompt in prompts]
    async with install(embedded_server, tiny.bundle.path, workers=1, worker__kv_budget_mib=1) as home:
        answers = await home.ask_all(prompts, threshold=1.0, max_new_tokens=NEW_TOKENS)
    assert texts(answers) == expected
    positions = sum(answer["cloud"]["answers"] for answer in answers)
    assert sum(answer["cloud"]["uploaded_tokens"] for answer in answers) > positions


async def test_two_tenants_with_the_same_edge_id_share_a_broker_and_nothing_else(
    install: Install, tiny: Reference, own_broker: ServerProcess
):
    expected = tiny.generate(PROMPTS[0], NEW_TOKENS)
    async with (
        install(own_broker, tiny.bundle.path, workers=1, general__tenant="first") as first,
        install(
            own_broker, tiny.bundle.path, workers=1, general__tenant="second", edge__open_deadline_s=0.5
        ) as second,
    ):
        answers = await asyncio.gather(
            first.ask(PROMPTS[0], threshold=1.0, max_new_tokens=NEW_TOKENS),
            second.ask(PROMPTS[0], threshold=1.0, max_new_tokens=NEW_TOKENS),
        )
        second.stack.kill("worker-1")
        await eventually(lambda: not second.readiness.workers, 20.0, "the dead worker's will")
        assert first.readiness.workers == {"worker-1"}
        alone = await second.ask(PROMPTS[0], threshold=1.0, max_new_tokens=4, mode="collaborative")
        assert alone["degraded"]
    assert texts(answers) == [expected, expected]


@pytest.mark.parametrize(
    ("own_broker", "log"), [("embedded", "memory"), ("mosquitto", "redis")], indirect=["own_broker"]
)
async def test_a_rolling_restart_of_all_workers_under_load_degrades_no_answer(
    install: Install, endless: Reference, own_broker: ServerProcess, redis_server: RedisServer, log: str
):
    """Sixteen askers go on asking while each of four workers is told to stop and started again."""
    given = {"worker__redis_url": redis_server.url} if log == "redis" else {}
    async with install(own_broker, endless.bundle.path, workers=4, **given) as home:
        calm = await home.ask_all(PROMPTS, threshold=1.0, max_new_tokens=ROLLING_TOKENS)
        expected = dict(zip(PROMPTS, texts(calm), strict=True))
        over = asyncio.Event()
        asked = [asyncio.create_task(ask_until(home, prompt, over)) for prompt in PROMPTS * 2]
        for number in range(1, 5):
            await restart(home, f"worker-{number}")
        over.set()
        answers = list(chain.from_iterable(await asyncio.gather(*asked)))
    assert [text for prompt, text in answers if text != expected[prompt]] == []
    assert len(answers) >= len(asked)


async def ask_until(home: Installation, prompt: str, over: asyncio.Event) -> list[tuple[str, str]]:
    """Ask again and again; the prompt and the text of each answer, none of which is degraded."""
    answers = []
    while not over.is_set():
        answer = await home.ask(prompt, threshold=1.0, max_new_tokens=ROLLING_TOKENS)
        assert not answer["degraded"], answer["note"]
        answers.append((prompt, answer["output"]))
    return answers
