"""What a server says on stderr: readable lines on a terminal, one JSON object a line elsewhere.

Owns the form and the limits. Everything logs through `logging` by module name; here it becomes structlog's output. A
logger that says more than `BURST` lines in `BURST_S` is cut, and how many lines were cut is said. What the client of
Kafka repeats (30 errors a second while its broker is away) is said once a minute with how often, as our own modules do.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Final, Literal

import structlog

from feed.runtime.throttle import Throttle, times_text

BURST: Final = 10
BURST_S: Final = 10.0


class OnceAMinute(logging.Filter):
    """Lets the same words of a library through once a minute, with how often they came."""

    def __init__(self, library: str) -> None:
        super().__init__()
        self._library = library
        self._throttle = Throttle(clock=time.monotonic)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this record is said."""
        if record.name.partition(".")[0] != self._library:
            return True
        words = record.getMessage()
        times = self._throttle.due((record.name, words))
        if times > 1:
            record.msg, record.args = f"{words}{times_text(times)}", ()
        return times > 0


class Limit(logging.Filter):
    """Lets at most `BURST` records of a logger and level through in `BURST_S`."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this record is said."""
        key = record.name, record.levelno
        now = time.monotonic()
        since, count = self._seen.get(key, (now, 0))
        if now - since > BURST_S:
            if count > BURST:
                record.msg = f"{record.getMessage()} (and {count - BURST} lines before that were not said)"
                record.args = ()
            since, count = now, 0
        self._seen[key] = since, count + 1
        return count < BURST


def set_up(level: str, form: Literal["auto", "json", "text"]) -> None:
    """Sends all logging to stderr; call once, at the start of a server."""
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    colors = text and sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        stamp,
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=colors) if text else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(OnceAMinute("aiokafka"))
    handler.addFilter(Limit())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("aiokafka").setLevel("WARNING" if level != "debug" else "DEBUG")
    # Nothing rests on the group, and every new cluster says first that it has no coordinator yet.
    logging.getLogger("aiokafka.consumer.group_coordinator").setLevel("CRITICAL" if level != "debug" else "DEBUG")
    logging.getLogger("uvicorn.error").setLevel("WARNING" if level != "debug" else "DEBUG")
