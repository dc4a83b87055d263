"""`antiphon ask`: one prompt or a file of them, to the running edge agent or to one of its own.

A device client of the edge agent on the broker; with `--local`, or `--home`, or when no agent
answers, the command is an edge host itself and still uses the cloud if a broker can be reached.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from edge_agent.request import Request
from ops.asker import Asker, find_asker
from ops.cli_context import cli_options, console, console_err
from ops.commands.options import Codec, Mode
from ops.prompt_file import answers, read_prompts, request_of
from ops.render import answer_summary, error_line
from ops.token_printer import TokenPrinter
from shared.config import Settings
from shared.errors import AntiphonError, ConfigError
from shared.log import setup_logging


def ask(
    context: typer.Context,
    prompt: Annotated[str | None, typer.Argument(help="What to ask.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole answer as one line of JSON.")
    ] = False,
    home: Annotated[
        Path | None, typer.Option(help="YAML file of the home to act in; implies --local.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help='JSON lines, each a prompt or {"prompt": …}; prints one line of JSON for each.'),
    ] = None,
    local: Annotated[bool, typer.Option("--local", help="Be the edge host here, not its client.")] = False,
    mode: Mode = None,
    codec: Codec = None,
    threshold: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Confidence above which an exit answers; 1: never.")
    ] = None,
    quality: Annotated[
        float | None,
        typer.Option(help="Share of tokens that are to be the full model's, as calibrated: 0.99."),
    ] = None,
    lookahead: Annotated[
        int | None, typer.Option(min=0, max=256, help="Tokens drafted while the cloud is asked; 0: none.")
    ] = None,
    latency_budget_ms: Annotated[
        float, typer.Option(min=0.0, help="How long the answer may wait for the cloud in all; 0: any time.")
    ] = 0.0,
    bundle: Annotated[str | None, typer.Option(help="With --local: the bundle to load.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=0, help="Bound of the answer; 0: the agent's.")] = 0,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    top_k: Annotated[int, typer.Option(min=0)] = 0,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0)] = 1.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    host: Annotated[str | None, typer.Option(help="Broker's address.")] = None,
    port: Annotated[int | None, typer.Option(help="Broker's port.")] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds for one answer.")] = 60.0,
) -> None:
    """Ask for an answer; tokens are coloured by the rung that answered: edge exits or cloud."""
    if (prompt is None) == (file is None):
        msg = 'give either a prompt or --file: antiphon ask "turn on the kitchen lights"'
        raise ConfigError(msg)
    options = cli_options(context)
    settings = options.settings(
        {
            "general.log_level": options.log_level or "error",
            "general.bundle": bundle,
            "broker.host": host,
            "broker.port": port,
            "edge.home": None if home is None else str(home),
            "edge.mode": mode,
            "edge.codec": codec,
        }
    )
    setup_logging(settings.general.log_level)
    template = {
        "mode": mode,
        "codec": codec,
        "threshold": threshold,
        "quality": quality,
        "lookahead": lookahead,
        "latency_budget_ms": latency_budget_ms,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
    }
    if prompt is not None:
        requests = [request_of({**template, "prompt": prompt})]
    else:
        assert file is not None
        requests = read_prompts(file, template)
    own_edge = local or home is not None or bundle is not None
    failed = asyncio.run(
        _answer_all(
            settings,
            requests,
            as_lines=file is not None,
            as_json=as_json,
            local=own_edge,
            timeout_s=timeout_s,
        )
    )
    if failed:
        raise typer.Exit(1)


async def _answer_all(
    settings: Settings,
    requests: list[Request],
    *,
    as_lines: bool,
    as_json: bool,
    local: bool,
    timeout_s: float,
) -> int:
    """Answer, print, and count the failures."""
    async with AsyncExitStack() as stack:
        asker = await find_asker(stack, settings, local=local, timeout_s=timeout_s)
        if as_lines:
            return await _print_lines(asker, requests)
        (request,) = requests
        return await (_print_json(asker, request) if as_json else _print_answer(asker, request))


async def _print_lines(asker: Asker, requests: list[Request]) -> int:
    failed = 0
    async for line in answers(asker, requests):
        failed += "error" in line
        typer.echo(msgspec.json.encode(line).decode())
    return failed


async def _print_json(asker: Asker, request: Request) -> int:
    answer = await asker.ask(request, None)
    typer.echo(msgspec.json.encode(answer).decode())
    return int("error" in answer)


async def _print_answer(asker: Asker, request: Request) -> int:
    printer = TokenPrinter(console)
    try:
        answer = await asker.ask(request, printer.on_event)
    except AntiphonError:
        printer.end_line()
        raise
    if "error" in answer:
        printer.end_line()
        console_err.print(error_line(answer["error"]["message"]))
        return 1
    printer.finish(answer)
    console_err.print(answer_summary(answer))
    return 0
