"""The demo's script: ask, lose the broker, get it back, lose a worker, add up.

Every statement it prints is checked on the answers; the exit code says whether all of them held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from rich.console import Console

from broker.connect import transport_for
from edge_agent.request import Request, TokenEvent
from ops.demo.requests import LONG_REQUEST, REQUESTS
from ops.demo.tally import Tally
from ops.device_client import DeviceClient
from ops.readiness import Readiness
from ops.render import answer_summary, answer_tokens
from ops.stack import Stack
from shared.config import Settings
from shared.errors import LinkError
from shared.wire.ids import new_id

WORKERS = 2
READY_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 30.0
# An answer may be complete before the kill lands: the scene is then played again, and says so.
MAX_TAKES = 10


class Demo:
    """One run of the demo on a stack of its own.

    Args:
        settings: with a free broker port.
        console: where it is shown.
    """

    def __init__(self, settings: Settings, console: Console) -> None:
        self._settings = settings
        self._console = console
        self._stack = Stack(settings, workers=WORKERS, restart=False)
        self._tally = Tally()
        self._failed: list[str] = []

    async def run(self) -> bool:
        """Play all scenes; whether every statement held."""
        try:
            self._stack.start_all()
            async with transport_for(self._settings.broker, new_id("demo-"), None) as transport:
                tenant = self._settings.general.tenant
                self._readiness = Readiness(transport, tenant)
                self._client = DeviceClient(transport, tenant=tenant, device="demo-panel")
                await self._ready(WORKERS)
                await self._requests()
                await self._broker_lost()
                await self._worker_lost()
        finally:
            await self._stack.stop()
        self._console.print(self._tally.table())
        for failure in self._failed:
            self._console.print(f"[bold red]did not hold:[/] {failure}", highlight=False)
        return not self._failed

    async def _ready(self, workers: int) -> None:
        if not await self._readiness.wait(edges=1, workers=workers, timeout_s=READY_TIMEOUT_S):
            msg = f"edge and {workers} workers are not ready within {READY_TIMEOUT_S:g} s"
            raise LinkError(msg)

    async def _requests(self) -> None:
        self._scene(f"{len(REQUESTS)} requests from a device, over MQTT")
        for prompt, expected in REQUESTS:
            answer = await self._ask(prompt)
            right = answer.get("action") == expected
            self._tally.add(answer, right=right)
            self._show(prompt, answer, None if right else f"expected {expected}")

    async def _broker_lost(self) -> None:
        self._scene("the broker is killed in the middle of an answer")
        whole = await self._ask(LONG_REQUEST, threshold=1.0)
        for _ in range(MAX_TAKES):
            answer = await self._ask(LONG_REQUEST, threshold=1.0, on_cloud_token=self._bounce_broker)
            if answer["degraded"]:
                break
            self._console.print("the answer was complete before the kill: once more", style="dim")
            await self._ready(WORKERS)
        self._show(LONG_REQUEST, answer, None)
        self._hold(answer["degraded"], "the edge finished the answer alone")
        await self._ready(WORKERS)
        again = await self._ask(LONG_REQUEST, threshold=1.0)
        self._show(LONG_REQUEST, again, None)
        self._hold(again["rungs"].get("cloud", 0) > 0, "with the broker back, the cloud answers again")
        self._hold(again["output"] == whole["output"], "and the text is the one from before")

    async def _worker_lost(self) -> None:
        self._scene("a worker is killed in the middle of an answer")
        whole = await self._ask(LONG_REQUEST, threshold=1.0)
        for _ in range(MAX_TAKES):
            killed: list[str] = []
            answer = await self._ask(
                LONG_REQUEST, threshold=1.0, on_cloud_token=partial(self._kill_worker, killed)
            )
            if len({token["worker"] for token in answer["tokens"]}) > 1:
                break
            self._console.print("the answer was complete before the kill: once more", style="dim")
            self._stack.start(killed[0])
            await self._ready(WORKERS)
        self._show(LONG_REQUEST, answer, None)
        workers = {token["worker"] for token in answer["tokens"] if token["worker"]}
        self._hold(len(workers) == WORKERS, f"{' and '.join(sorted(workers))} answered, one after the other")
        self._hold(not answer["degraded"], "no token was degraded")
        self._hold(answer["output"] == whole["output"], "the text is the one without the fault")

    def _bounce_broker(self, _event: TokenEvent) -> None:
        """Kill the broker and start another on the same port."""
        self._stack.kill("broker")
        self._stack.start("broker")

    def _kill_worker(self, killed: list[str], event: TokenEvent) -> None:
        killed.append(event.worker)
        self._stack.kill(event.worker)

    async def _ask(
        self,
        prompt: str,
        *,
        threshold: float | None = None,
        on_cloud_token: Callable[[TokenEvent], None] | None = None,
    ) -> dict[str, Any]:
        """Ask; `on_cloud_token` is called once, in mid-answer."""
        waiting = [on_cloud_token] if on_cloud_token is not None else []

        def on_event(event: TokenEvent) -> None:
            if waiting and event.rung == "cloud":
                waiting.pop()(event)

        request = Request(prompt, stream=bool(waiting), threshold=threshold)
        answer = await self._client.ask(request, ANSWER_TIMEOUT_S, on_event if waiting else None)
        if "error" in answer:
            raise LinkError(f"{prompt!r}: {answer['error']['message']}")
        return answer

    def _scene(self, title: str) -> None:
        self._console.print()
        self._console.rule(f"[bold]{title}[/]", align="left")

    def _show(self, prompt: str, answer: Mapping[str, Any], problem: str | None) -> None:
        self._console.print(f"[bold]›[/] {prompt}", highlight=False)
        self._console.print("  ", answer_tokens(answer["tokens"]), sep="")
        self._console.print(f"  {answer['text']}", style="bold", highlight=False, markup=False)
        if problem is not None:
            self._console.print(f"  {problem}", style="red", highlight=False, markup=False)
        self._console.print("  ", answer_summary(answer), sep="")

    def _hold(self, held: bool, statement: str) -> None:
        mark = "[green]✓[/]" if held else "[red]✗[/]"
        self._console.print(f"{mark} {statement}", highlight=False)
        if not held:
            self._failed.append(statement)


async def run_demo(settings: Settings, port: int, console: Console) -> bool:
    """Run the demo on `port`; whether every statement held."""
    return await Demo(replace(settings, broker=replace(settings.broker, port=port)), console).run()
