"""Logs: one line per event, for machines or people, and nothing private in them."""

from __future__ import annotations

import io
import json
import logging
import os

import pytest
import structlog

from shared import log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def fail_over(words: str) -> None:
    raise ValueError(len(words))


def logged(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_stream_that_is_no_terminal_gets_one_json_object_a_line() -> None:
    stream = io.StringIO()
    log.setup_logging(stream=stream)
    structlog.get_logger("x").warning("worker_lost", retry_s=0.5)
    (line,) = logged(stream)
    assert (line["event"], line["level"], line["retry_s"]) == ("worker_lost", "warning", 0.5)
    assert str(line["timestamp"]).endswith("Z")


def test_a_terminal_gets_words_for_people() -> None:
    stream = Terminal()
    log.setup_logging(stream=stream)
    structlog.get_logger().info("ready", port=1883)
    assert "ready" in stream.getvalue()
    assert "{" not in stream.getvalue()


def test_a_stream_that_is_closed_costs_the_line_and_not_the_work() -> None:
    stream = io.StringIO()
    log.setup_logging(stream=stream)
    stream.close()
    structlog.get_logger().error("worker_lost")


def test_a_pipe_that_nobody_reads_any_more_costs_the_line_and_not_the_work() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    log.setup_logging(stream=stream)
    structlog.get_logger().error("worker_lost")
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_stderr_is_the_default_so_that_stdout_stays_the_answers(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup_logging()
    structlog.get_logger().info("ready")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["event"] == "ready"


def test_what_is_below_the_level_is_not_written() -> None:
    stream = io.StringIO()
    log.setup_logging("warning", stream=stream)
    structlog.get_logger().info("noise")
    assert stream.getvalue() == ""


def test_context_is_on_every_line_inside_and_on_none_outside() -> None:
    stream = io.StringIO()
    log.setup_logging(stream=stream)
    with log.context(session="s-1", epoch=2, edge="hub"):
        structlog.get_logger().info("inside")
    structlog.get_logger().info("outside")
    inside, outside = logged(stream)
    assert (inside["session"], inside["epoch"], inside["edge"]) == ("s-1", 2, "hub")
    assert "worker" not in inside
    assert "session" not in outside


@pytest.mark.parametrize("key", sorted(log.HIDDEN_KEYS))
@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_hidden_keys_are_dropped_at_any_depth(key: str, stream: io.StringIO) -> None:
    log.setup_logging("debug", stream=stream)
    structlog.get_logger().bind(**{key: "s3cret"}).debug("e", inner=[{"kept": 1, key: {"deep": "s3cret"}}])
    assert "s3cret" not in stream.getvalue()
    assert "kept" in stream.getvalue()


def test_raw_bytes_are_replaced_by_their_length() -> None:
    stream = io.StringIO()
    log.setup_logging(stream=stream)
    structlog.get_logger().info("got", body=b"s3cret")
    assert logged(stream)[0]["body"] == "<6 bytes>"


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_traceback_shows_no_local_variables(stream: io.StringIO) -> None:
    """Rich tracebacks print locals, and a local may be a prompt."""
    log.setup_logging(stream=stream)
    try:
        fail_over("".join(["s3", "cret"]))
    except ValueError:
        structlog.get_logger().exception("broken")
    assert "ValueError: 6" in stream.getvalue()
    assert "s3cret" not in stream.getvalue()


def test_libraries_warnings_come_in_the_same_form_and_their_chatter_does_not() -> None:
    stream = io.StringIO()
    log.setup_logging("debug", stream=stream)
    logging.getLogger("aiomqtt").info("connecting")
    logging.getLogger("aiomqtt").warning("failed %s", "twice")
    (line,) = logged(stream)
    assert (line["event"], line["level"]) == ("failed twice", "warning")
