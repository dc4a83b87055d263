"""The broker or a worker dies in the middle of an answer; the edge always answers."""

from __future__ import annotations

from pathlib import Path

from edge_agent.request import Request, TokenEvent
from tests.conftest import make_broker
from tests.integration.conftest import ANSWER_TIMEOUT_S, Install, Installation, Reference
from tests.servers import RedisServer, ServerProcess

PROMPT = "turn on the kitchen lights and close the garage door"
NEW_TOKENS = 120


async def ask_and_disturb(home: Installation, disturb, after: int = 10, **wishes) -> dict:
    """Ask, and call `disturb` with the event of the token number `after`."""

    def on_event(event: TokenEvent) -> None:
        if event.index == after and not event.done:
            disturb(event)

    wishes = {"max_new_tokens": NEW_TOKENS, **wishes}
    request = Request(PROMPT, stream=True, threshold=1.0, **wishes)
    answer = await home.client.ask(request, ANSWER_TIMEOUT_S, on_event)
    assert "error" not in answer, answer
    return answer


async def test_a_lost_broker_leaves_the_rest_of_the_answer_to_the_edge_and_comes_back(
    install: Install, tiny: Reference, own_broker: ServerProcess
):
    whole = tiny.generate(PROMPT, NEW_TOKENS)

    def bounce(_event: TokenEvent) -> None:
        own_broker.kill()
        own_broker.restart()

    async with install(own_broker, tiny.bundle.path, workers=1) as home:
        answer = await ask_and_disturb(home, bounce)
        assert answer["degraded"]
        assert "broker" in answer["note"]
        assert len(answer["tokens"]) == NEW_TOKENS or answer["finish_reason"] == "stop"
        rungs = [token["rung"] for token in answer["tokens"]]
        assert rungs[0] == "cloud"
        assert "edge-2" in rungs
        await home.ready(1)
        again = await home.ask(PROMPT, threshold=1.0, max_new_tokens=NEW_TOKENS)
        assert not again["degraded"]
        assert again["output"] == whole


async def test_a_killed_worker_is_replaced_in_mid_answer_and_the_text_is_the_same(
    install: Install, tiny: Reference, own_broker: ServerProcess
):
    whole = tiny.generate(PROMPT, NEW_TOKENS)
    async with install(own_broker, tiny.bundle.path, workers=2, edge__step_deadline_s=1.0) as home:
        answer = await ask_and_disturb(home, lambda event: home.stack.kill(event.worker))
    assert answer["output"] == whole
    assert not answer["degraded"]
    assert {token["worker"] for token in answer["tokens"]} == {"worker-1", "worker-2"}


async def test_a_broker_that_is_not_there_at_the_start_is_used_when_it_comes(
    install: Install, tiny: Reference, tmp_path: Path
):
    server = make_broker("embedded", tmp_path / "late")
    async with _local_agent(server, tiny) as agent:
        alone = await agent.answer(Request(PROMPT, threshold=1.0, max_new_tokens=8))
        assert alone.degraded
        assert "broker" in alone.note
        assert set(alone.rungs) == {"edge-2"}
        with server:
            async with install(server, tiny.bundle.path, workers=1):
                assert await agent.wait_for_link(10.0)
                together = await agent.answer(Request(PROMPT, threshold=1.0, max_new_tokens=8))
    assert set(together.rungs) == {"cloud"}
    assert together.output == tiny.generate(PROMPT, 8)


async def test_a_broker_without_workers_costs_one_deadline_and_the_edge_says_so(
    tiny: Reference, embedded_server: ServerProcess
):
    """One deadline in all: later answers wait for nobody, though each of them looks for a worker."""
    given = {"edge__open_deadline_s": 0.2, "edge__step_deadline_s": 0.5, "edge__deadline_s": 2.0}
    async with _local_agent(embedded_server, tiny, **given) as agent:
        assert await agent.wait_for_link(10.0)
        answers = [await agent.answer(Request(PROMPT, threshold=1.0, max_new_tokens=8)) for _ in range(3)]
    assert all(answer.degraded for answer in answers)
    assert [len(answer.tokens) for answer in answers] == [8, 8, 8]
    first, *later = answers
    assert "no worker" in first.note
    assert first.timings.cloud_wait_ms < 3_000
    assert all(answer.timings.cloud_wait_ms < 500 for answer in later)


async def test_a_pool_of_another_bundle_refuses_with_both_digests(
    install: Install, tiny: Reference, embedded_server: ServerProcess, tmp_path: Path
):
    from ops.prepare import prepare

    other = prepare(tiny.bundle.path.parent / "checkpoint", [1, 3], None, tmp_path / "other", name="tiny")
    async with (
        install(embedded_server, other.path, workers=1),
        _local_agent(embedded_server, tiny) as agent,
    ):
        assert await agent.wait_for_link(10.0)
        answer = await agent.answer(Request(PROMPT, threshold=1.0, max_new_tokens=4))
    assert answer.degraded
    assert other.digest in answer.note
    assert tiny.bundle.digest in answer.note


async def test_sampled_text_is_the_same_with_the_cloud_of_any_size_and_after_a_failover(
    install: Install, tiny: Reference, own_broker: ServerProcess
):
    wishes = {"temperature": 1.0, "seed": 5, "top_p": 0.95}
    async with install(own_broker, tiny.bundle.path, workers=2, edge__step_deadline_s=1.0) as home:
        calm = await home.ask(PROMPT, threshold=1.0, max_new_tokens=NEW_TOKENS, **wishes)
        disturbed = await ask_and_disturb(home, lambda event: home.stack.kill(event.worker), **wishes)
        other = await home.ask(PROMPT, threshold=1.0, max_new_tokens=NEW_TOKENS, **{**wishes, "seed": 6})
    assert disturbed["output"] == calm["output"]
    assert other["output"] != calm["output"]


def _local_agent(server: ServerProcess, tiny: Reference, **given):
    from edge_agent.service import edge_service
    from tests.integration.conftest import settings_for

    settings = settings_for(server, tiny.bundle.path, **given)
    return edge_service(settings, serve_devices=False)


async def test_with_redis_a_new_worker_goes_on_where_the_log_ends(
    install: Install, tiny: Reference, embedded_server: ServerProcess, redis_server: RedisServer
):
    whole = tiny.generate(PROMPT, NEW_TOKENS)
    given = {"edge__step_deadline_s": 1.0, "worker__redis_url": redis_server.url}
    # Of rows that were once rewritten nobody knows which version a log holds: those would go up again.
    given["edge__lookahead"] = 0
    async with install(embedded_server, tiny.bundle.path, workers=2, **given) as home:
        answer = await ask_and_disturb(home, lambda event: home.stack.kill(event.worker), after=60)
        calm = await home.ask(PROMPT, threshold=1.0, max_new_tokens=NEW_TOKENS)
    assert answer["output"] == whole
    assert len({token["worker"] for token in answer["tokens"]}) == 2
    repeated = answer["cloud"]["uploaded_tokens"] - calm["cloud"]["uploaded_tokens"]
    # The log is written behind the replies, so its last rows may be missing; without it all 60 and
    # the prompt would go up again.
    assert repeated < 30


async def test_the_same_answer_uses_the_cloud_again_when_the_broker_is_back(
    install: Install, endless: Reference, own_broker: ServerProcess
):
    def bounce(_event: TokenEvent) -> None:
        own_broker.kill()
        own_broker.restart()

    given = {"edge__open_deadline_s": 0.3}
    async with install(own_broker, endless.bundle.path, workers=1, **given) as home:
        answer = await ask_and_disturb(home, bounce, max_new_tokens=900)
    rungs = [token["rung"] for token in answer["tokens"]]
    alone = rungs.index("edge-2")
    assert set(rungs[:alone]) == {"cloud"}
    assert "cloud" in rungs[alone:]
    assert len(rungs) == 900
