"""A gateway over recordings alone: `replay serve`. No Kafka, no live stream; the same protocol on `/v1/replay`.

Owns the page and the list of symbols that stand in for the live ones, and how it runs. The rest is the gateway's.
"""

from __future__ import annotations

import asyncio
import logging
from html import escape
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI, Response
from starlette.responses import HTMLResponse

from feed.errors import BadRequest, ConfigError, FeedError
from feed.gateway.answers import error_answer, json_answer, told
from feed.gateway.pages import HEADERS
from feed.gateway.recordings import Range, Recordings
from feed.gateway.server import build_server, serve
from feed.run.ports import address_of, refuse_used_port
from feed.run.up import make_gateway, when_ready
from feed.runtime.checks import Check
from feed.runtime.command import say
from feed.runtime.metrics import Metrics
from feed.runtime.tasks import together
from feed.wire.model import KINDS
from feed.wire.times import text_of
from replay.routes import add_routes

if TYPE_CHECKING:
    from feed.gateway.gateway import Gateway
    from feed.runtime.settings import Settings

_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>feed: a recording</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="/board/icon.svg">
<link rel="stylesheet" href="/board/board.css">
<main class="reference"><h1>feed <small>a recording</small></h1>
<p>This server has no live data. It plays what was recorded, over the same protocol as a live gateway.</p>
<table><tr><th class="name">from<td>{begin}<tr><th class="name">to<td>{end}<tr><th class="name">symbols<td>{symbols}
</table>
<section><h2><code>/v1/replay</code></h2><p>WebSocket: subscribe, then</p>
<p><code>{{"op":"replay","id":1,"do":"open","from":"{begin}","speed":10}}</code></p>
<p><code>{{"op":"replay","id":2,"do":"play"}}</code></p>
<p>Its messages: <a href="/v1/asyncapi.yaml">asyncapi.yaml</a>.</p></section>
<section><h2><code>/v1/history</code></h2><p>All of a range at once, as Arrow, NDJSON or CSV: <a href="/docs">HTTP</a>.
<a href="/v1/symbols">symbols</a>, <a href="/v1/status">status</a>.</p></section></main></html>
"""
_LOOK_SECONDS: Final = 2.0
"""Between two looks at what there is."""
_logger: Final = logging.getLogger("feed.gateway")


async def run_alone(settings: Settings) -> None:
    """Serves the recordings of the settings until a signal.

    Raises:
        ConfigError: there is no such folder.
        FeedError: the port is in use.
    """
    gateway = make_gateway(settings, Metrics(), live=False)
    assert gateway.recordings is not None
    recordings = gateway.recordings
    watch = _Watch(await recordings.run(lambda: _range(recordings)))
    gateway.health.others.append(watch.check)
    refuse_used_port(settings.serve.host, settings.serve.port)
    server = build_server(gateway, add_routes, add_alone)

    def tell() -> None:
        at = address_of(settings.serve.host, server.port)
        say(f"{settings.serve.recordings}: {watch.words}")
        say(f"replay  ws://{at}/v1/replay")
        say(f"page    http://{at}/")
        say(f"docs    http://{at}/docs")

    await together([serve(server), when_ready(server, tell), watch.run(recordings)])


def add_alone(app: FastAPI, gateway: Gateway) -> None:
    """What takes the place of the live routes."""
    recordings = gateway.recordings
    assert recordings is not None

    @app.get("/", response_class=HTMLResponse)
    async def page() -> Response:
        """What this server is."""
        try:
            found, channels = await recordings.run(lambda: _look(recordings))
        except (FeedError, OSError) as error:
            return _cannot(error)
        begin, end = (text_of(found.begin), text_of(found.end)) if found else ("nothing yet", "nothing yet")
        symbols = len({symbol for _, symbol in channels})
        return HTMLResponse(_PAGE.format(begin=escape(begin), end=escape(end), symbols=symbols), headers=HEADERS)

    @app.get("/v1/symbols", responses=told("Symbols in alphabetical order", {"type": "array"}))
    async def symbols() -> Response:
        """The recorded symbols, with their channels and the source in which they were last."""
        try:
            _, channels = await recordings.run(lambda: _look(recordings))
        except (FeedError, OSError) as error:
            return _cannot(error)
        rows = {
            symbol: {"symbol": symbol, "channels": [kind for kind in KINDS if (kind, symbol) in channels]}
            for symbol in sorted({symbol for _, symbol in channels})
        }
        sources = {symbol: source for (_, symbol), source in channels.items()}
        return json_answer([{**row, "source": sources[symbol]} for symbol, row in rows.items()])


class _Watch:
    """What there is, as of a moment ago: a folder may grow, and be moved away."""

    def __init__(self, found: Range | None) -> None:
        self._there = True
        self.words = _words(found)

    def check(self) -> Check:
        """Whether the recording is there, and from when to when it is."""
        return Check("recording", self._there, self.words)

    async def run(self, recordings: Recordings) -> None:
        """Looks again and again."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                self.words = _words(await recordings.run(lambda: _range(recordings)))
                self._there = True
            except (FeedError, OSError) as error:  # a folder that is listed may fail as a disk does
                self.words, self._there = str(error), False


def _words(found: Range | None) -> str:
    return f"{text_of(found.begin)} to {text_of(found.end)}" if found else "nothing is recorded yet"


def _range(recordings: Recordings) -> Range | None:
    try:
        recording = recordings.open()
    except BadRequest as error:
        raise ConfigError(f"no recording in {recordings.path}") from error
    try:
        return recordings.range_of(recording)
    except BadRequest:
        return None
    finally:
        recording.close()


def _cannot(error: Exception) -> Response:
    """The answer where the recording cannot be read."""
    _logger.warning("the recording cannot be read: %s", error)
    if isinstance(error, BadRequest):
        return error_answer(404, error.code, error.message)
    if isinstance(error, OSError):
        return error_answer(503, "source_unavailable", "the recording cannot be opened now")
    return error_answer(500, "internal", "the recording is damaged")


def _look(recordings: Recordings) -> tuple[Range | None, dict[tuple[str, str], str]]:
    """When and what was recorded, as it is now.

    Raises:
        BadRequest: `no_recording`, there is no folder.
        CorruptRecording: a file is damaged.
        OSError: it cannot be opened now.
    """
    recording = recordings.open()
    try:
        return recordings.range_of(recording), recordings.catalog.channels(recording)
    except BadRequest:
        return None, {}
    finally:
        recording.close()
