"""Parts of `antiphon ask` and `antiphon up`: terminal output, prompt files, addresses to listen on."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from edge_agent.request import Request, TokenEvent
from ops.commands.up import check_own_broker
from ops.listening import check_can_listen
from ops.prompt_file import CONCURRENT_PROMPTS, MAX_AHEAD, answers, read_prompts
from ops.render import answer_summary, error_line, printable
from ops.token_printer import TokenPrinter
from shared.config import BrokerSection
from shared.errors import ConfigError, LinkError, PromptError

TOKENS = ("turn", " on", " the", " light")


def answer_of(*texts: str, text: str | None = None) -> dict[str, Any]:
    tokens = [{"text": each, "rung": "cloud", "degraded": False} for each in texts]
    output = "".join(texts)
    return {"tokens": tokens, "output": output, "text": output if text is None else text}


def printed(events: list[tuple[int, str]], answer: dict[str, Any], *, colour: bool = False) -> str:
    out = io.StringIO()
    system = "standard" if colour else None
    printer = TokenPrinter(Console(file=out, width=40, force_terminal=colour, color_system=system))
    for index, text in events:
        printer.on_event(TokenEvent("1", index, text, "cloud"))
    printer.on_event(TokenEvent("1", len(events), done=True))
    printer.finish(answer)
    return out.getvalue()


def test_tokens_that_all_came_are_printed_once():
    assert printed(list(enumerate(TOKENS)), answer_of(*TOKENS)) == "turn on the light\n"


@pytest.mark.parametrize(
    "events",
    [
        [(0, "turn"), (2, " the"), (3, " light")],  # a hole
        [(0, "turn"), (1, " on"), (0, "turn"), (1, " on"), (2, " the"), (3, " light")],  # begun anew
        [(0, "turn"), (1, " on")],  # the rest lost
        [(0, "turn"), (1, " off"), (2, " the"), (3, " light")],  # another run's token
    ],
)
def test_an_answer_whose_events_were_lost_or_doubled_is_printed_whole_at_the_end(events):
    shown, whole = printed(events, answer_of(*TOKENS)).split(" …\n")
    assert whole == "turn on the light\n"
    assert shown in {"turn", "turn on", "turn off the light"}


def test_an_answer_without_events_is_printed_with_its_tokens_colours():
    text = printed([], answer_of(*TOKENS), colour=True)
    assert text.count("\x1b[35m") == len(TOKENS)  # magenta: the cloud's
    assert "…" not in text


def test_the_text_is_added_where_it_says_more_than_the_tokens():
    assert printed([(0, "{}")], answer_of("{}", text="[done] it is")) == "{}\n[done] it is\n"


def test_what_a_model_wrote_can_not_steer_the_terminal():
    evil = "\x1b]0;title\x07a\x1b[2J\r\x9b31mb\n\tc\x7f"
    harmless = "]0;titlea[2J31mb\n\tc"
    assert printable(evil) == harmless
    assert printable("half a pair \ud83d") == "half a pair "
    for text in (
        printed([(0, evil)], answer_of(evil)),
        printed([], answer_of(evil)),
        printed([(0, "x")], answer_of("x", text=evil)),
    ):
        assert not set(text) & {"\x1b", "\x07", "\r", "\x9b", "\x7f"}
    assert "\x1b" not in error_line(evil).plain
    summary = {"cloud": {"requests": 0, "uplink_bytes": 0}, "timings": {"total_ms": 1.0}}
    assert "\x1b" not in answer_summary({"rungs": {evil: 1}, "degraded": True, "note": evil, **summary}).plain


def test_brackets_in_an_error_are_shown_as_they_are():
    out = io.StringIO()
    Console(file=out, width=80).print(error_line("no [bold]such[/bold] [/] file"))
    assert out.getvalue() == "error: no [bold]such[/bold] [/] file\n"


def lines_in(folder: Path, *lines: object) -> Path:
    file = folder / "prompts.jsonl"
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return file


def test_a_line_is_a_prompt_or_an_object_and_keeps_its_own_wishes(tmp_path: Path):
    file = lines_in(tmp_path, "good\u2028night", {"prompt": "x", "seed": 7, "id": "a"})
    requests = read_prompts(file, {"seed": 3, "mode": None})
    assert requests == [Request("good\u2028night", seed=3), Request("x", id="a", seed=7)]


def test_two_lines_of_one_id_are_both_named(tmp_path: Path):
    file = lines_in(tmp_path, {"prompt": "x", "id": "a"}, "y", {"prompt": "z", "id": "a"})
    with pytest.raises(PromptError, match=r"lines 1 and 3 have the same id 'a'"):
        read_prompts(file, {})


def test_a_file_that_is_no_text_is_named(tmp_path: Path):
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(PromptError, match="not UTF-8"):
        read_prompts(file, {})


class SlowFirst:
    """Answers at once, but the first prompt only when the others of its window have been asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.running = 0
        self.most_running = 0
        self._go = asyncio.Event()

    async def ask(self, request: Request, on_event: object) -> dict[str, Any]:
        self.asked += 1
        if self.asked == MAX_AHEAD:
            self._go.set()
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await (self._go.wait() if request.prompt == "0" else asyncio.sleep(0))
        self.running -= 1
        if request.prompt == "3":
            raise LinkError("no answer")
        return {"text": request.prompt, "asked": self.asked}


async def test_a_long_file_is_answered_in_order_with_a_bounded_number_at_once():
    asker = SlowFirst()
    requests = [Request(str(number)) for number in range(500)]
    async with asyncio.timeout(10):
        lines = [line async for line in answers(asker, requests)]
    assert asker.most_running == CONCURRENT_PROMPTS
    assert [line["prompt"] for line in lines] == [request.prompt for request in requests]
    assert lines[0]["asked"] <= MAX_AHEAD
    assert lines[3]["error"] == {"code": "link", "message": "no answer"}


async def test_no_task_outlives_a_file_that_is_given_up():
    before = asyncio.all_tasks()
    lines = answers(SlowFirst(), [Request(str(number)) for number in range(500)])
    await anext(lines)
    assert len(asyncio.all_tasks() - before) <= MAX_AHEAD
    await lines.aclose()
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_up_says_that_it_starts_its_own_broker_when_the_settings_name_another_machine(host: str):
    with pytest.raises(ConfigError, match=r"broker of its own.*--host 127\.0\.0\.1.*--external-broker"):
        check_own_broker(BrokerSection(host=host))


def test_up_says_that_its_own_broker_has_no_certificate():
    with pytest.raises(ConfigError, match="--external-broker"):
        check_own_broker(BrokerSection(tls=True))


def test_a_free_port_here_can_be_listened_on():
    check_can_listen("127.0.0.1", 0, instead="")
