"""Any MQTT client can be a device: Mosquitto's own tools ask and are answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.conftest import need_binary
from tests.integration.conftest import Install, Installation, Reference
from tests.servers import ServerProcess

BASE = "antiphon/v1/home/device/lamp-switch"
PROMPT = "turn on the kitchen lights"
WAIT_S = 30.0


@asynccontextmanager
async def listening(server: ServerProcess, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A `mosquitto_sub` that has its subscription."""
    process = await asyncio.create_subprocess_exec(
        # Its debug lines, which tell of the subscription, would wait in a full buffer.
        "stdbuf", "-oL", "mosquitto_sub", "-h", server.host, "-p", str(server.port), "-d", *arguments,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(WAIT_S):
            while b"Subscribed" not in await process.stdout.readline():
                pass
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def next_json(process: asyncio.subprocess.Process) -> dict:
    async with asyncio.timeout(WAIT_S):
        while True:
            line = await process.stdout.readline()
            assert line, "mosquitto_sub ended"
            if line.startswith(b"{"):
                return json.loads(line)


async def run(*command: str) -> bytes:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(WAIT_S):
        out, _ = await process.communicate()
    assert process.returncode == 0
    return out


async def publish(server: ServerProcess, payload: str, *arguments: str) -> None:
    await run(
        "mosquitto_pub", "-h", server.host, "-p", str(server.port),
        "-t", f"{BASE}/prompt", "-m", payload, "-q", "1", *arguments,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _tools() -> None:
    need_binary("mosquitto_pub", "mosquitto-clients")


@pytest.mark.parametrize("version", ["mqttv5", "mqttv311"])
async def test_a_prompt_on_the_device_topic_is_answered_with_everything_about_it(
    version: str, install: Install, tiny: Reference, own_broker: ServerProcess
):
    async with (
        install(own_broker, tiny.bundle.path, workers=1),
        listening(own_broker, "-t", f"{BASE}/answer", "-V", version) as answers,
        listening(own_broker, "-t", f"{BASE}/stream", "-V", version) as stream,
    ):
        wishes = {"prompt": PROMPT, "id": "7", "stream": True, "max_new_tokens": 6, "threshold": 1.0}
        await publish(own_broker, json.dumps(wishes), "-V", version)
        answer = await next_json(answers)
        events = [await next_json(stream) for _ in range(7)]
    assert answer["id"] == "7"
    assert answer["text"] == tiny.generate(PROMPT, 6)
    assert answer["action"] is None
    assert answer["degraded"] is False
    assert [set(token) >= {"text", "rung", "confidence"} for token in answer["tokens"]] == [True] * 6
    assert answer["rungs"] == {"cloud": 6}
    assert answer["timings"]["total_ms"] > 0
    assert [event["index"] for event in events] == list(range(7))
    assert [event["text"] for event in events[:6]] == [token["text"] for token in answer["tokens"]]
    assert events[-1]["done"]


async def test_bad_prompts_get_an_error_that_says_what_to_send(
    install: Install, tiny: Reference, own_broker: ServerProcess
):
    async with (
        install(own_broker, tiny.bundle.path, workers=1) as home,
        listening(own_broker, "-t", f"{BASE}/answer") as answers,
    ):
        for bad, code in [
            ("turn on the light", "prompt"),
            ('{"prompt": 5, "id": "my-5"}', "prompt"),
            (json.dumps({"prompt": "x " * 20000}), "prompt"),
        ]:
            await publish(own_broker, bad)
            failure = await next_json(answers)
            assert failure["error"]["code"] == code, bad
            assert failure["error"]["message"]
            if "my-5" in bad:
                assert failure["id"] == "my-5"
        await still_answers(home, tiny)


async def still_answers(home: Installation, tiny: Reference) -> None:
    answer = await home.ask(PROMPT, threshold=1.0, max_new_tokens=4)
    assert answer["output"] == tiny.generate(PROMPT, 4)


async def test_the_response_topic_is_honoured_inside_the_devices_own_subtree(
    install: Install, tiny: Reference, own_broker: ServerProcess
):
    async with install(own_broker, tiny.bundle.path, workers=1):
        own = f"{BASE}/inbox"
        out = await run(
            "mosquitto_rr", "-h", own_broker.host, "-p", str(own_broker.port), "-V", "5", "-W", "20",
            "-t", f"{BASE}/prompt", "-e", own, "-m", json.dumps({"prompt": PROMPT, "max_new_tokens": 3}),
            "-D", "publish", "correlation-data", "c-1", "-F", "%D %p",
        )  # fmt: skip
    assert out.startswith(b"c-1 {")
    assert json.loads(out.split(b" ", 1)[1])["text"]


async def test_an_answer_never_goes_to_another_devices_topics(
    install: Install, tiny: Reference, own_broker: ServerProcess
):
    other = "antiphon/v1/home/device/other/answer"
    async with (
        install(own_broker, tiny.bundle.path, workers=1),
        listening(own_broker, "-t", "antiphon/v1/home/device/+/answer", "-F", "%t %p") as answers,
    ):
        hostile = ["-V", "5", "-D", "publish", "response-topic", other]
        await publish(own_broker, json.dumps({"prompt": PROMPT, "max_new_tokens": 2}), *hostile)
        async with asyncio.timeout(WAIT_S):
            while not (line := await answers.stdout.readline()).startswith(b"antiphon/"):
                pass
    assert line.startswith(f"{BASE}/answer {{".encode())


async def test_the_same_id_is_answered_again_without_working_again(
    install: Install, tiny: Reference, own_broker: ServerProcess
):
    async with (
        install(own_broker, tiny.bundle.path, workers=1),
        listening(own_broker, "-t", f"{BASE}/answer") as answers,
    ):
        payload = json.dumps({"prompt": PROMPT, "id": "once", "max_new_tokens": 3})
        await publish(own_broker, payload)
        first = await next_json(answers)
        await publish(own_broker, payload)
        assert await next_json(answers) == first  # its timings too
