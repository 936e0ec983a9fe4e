"""What a server says on stderr: its form, and that nothing floods it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from feed.runtime import logs

SET: tuple[str, ...] = ("aiokafka", "aiokafka.consumer.group_coordinator", "uvicorn.error")
"""Loggers whose level is set."""


class Clock:
    """Monotonic time by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """Somebody reads it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """That of the module."""
    made = Clock()
    monkeypatch.setattr(logs.time, "monotonic", made)
    return made


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in SET}
    yield
    root.handlers[:], root.level = handlers, level
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def test_elsewhere_than_on_a_terminal_it_is_an_object_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.set_up("info", "auto")
    log = logging.getLogger("feed.test")
    log.debug("too little")
    log.warning("%d bytes", 5)
    try:
        raise OSError("full")
    except OSError:
        log.exception("it failed")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["event"], first["level"], first["logger"]) == ("5 bytes", "warning", "feed.test")
    assert first["timestamp"].endswith("Z")
    assert "OSError: full" in second["exception"]


@pytest.mark.parametrize(("no_color", "colors"), [("", True), ("1", False)])
def test_on_a_terminal_it_is_text(no_color: str, colors: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("NO_COLOR", no_color)
    logs.set_up("info", "auto")
    logging.getLogger("feed.test").info("hello")
    assert "hello" in stream.getvalue()
    assert ("\x1b[" in stream.getvalue()) == colors


def test_text_may_be_asked_for_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.set_up("debug", "text")
    logging.getLogger("feed.test").debug("hello")
    assert "hello" in stream.getvalue()
    assert "\x1b[" not in stream.getvalue()
    assert not stream.getvalue().startswith("{")


@pytest.mark.parametrize(("level", "heard"), [("info", ["WARNING", "CRITICAL", "WARNING"]), ("debug", ["DEBUG"] * 3)])
def test_libraries_are_heard_from_warnings_on_or_all_of_them(level: str, heard: list[str]) -> None:
    logs.set_up(level, "json")
    assert [logging.getLevelName(logging.getLogger(name).level) for name in SET] == heard


def test_a_flood_is_cut_and_told(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.set_up("info", "json")
    log = logging.getLogger("feed.test")
    for number in range(logs.BURST + 7):
        log.info("line %d", number)
    log.error("another level")
    clock.now += logs.BURST_S + 0.1
    log.info("later")
    clock.now += logs.BURST_S + 0.1
    log.info("much later")
    said = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert said[: logs.BURST] == [f"line {number}" for number in range(logs.BURST)]
    assert said[logs.BURST :] == [
        "another level",
        "later (and 7 lines before that were not said)",
        "much later",
    ]


def test_what_the_client_of_kafka_repeats_is_said_once_a_minute(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.set_up("info", "json")
    client, ours = logging.getLogger("aiokafka.client"), logging.getLogger("feed.workers")
    for second in range(130):
        for _ in range(15):
            client.error("Unable connect to node with id %s: %s", 1, OSError(111, "Connect call failed"))
        client.error("Topic %s not found in cluster metadata", "ticks.krakn")
        if second % 50 == 0:
            ours.error("worker %d ended with %d", 1, -9)
        clock.now += 1.0
    said = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    node = "Unable connect to node with id 1: [Errno 111] Connect call failed"
    topic = "Topic ticks.krakn not found in cluster metadata"
    assert sorted(said) == sorted(
        [node, f"{node} (900 times)", f"{node} (900 times)", topic, f"{topic} (60 times)", f"{topic} (60 times)"]
        + ["worker 1 ended with -9"] * 3
    )
