"""What a gateway with recordings answers beside the stream: the past over HTTP, and the door of replays.

Owns paths, parameters and answers. Leaves the bytes to `history`, replays to `session` and `player`, and files and
threads to `feed.gateway.recordings`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Annotated, Final, cast

from fastapi import FastAPI, Query, Request, Response, WebSocket
from starlette.responses import StreamingResponse

from feed.errors import BadRequest, FeedError, shown
from feed.gateway.answers import ERROR_ANSWER, Told, error_answer
from feed.gateway.app import admitted, refuse, upgrade_needed
from feed.gateway.recordings import Range, RecordingIterator, Recordings
from feed.gateway.ws import SUBPROTOCOL
from feed.recording.filter import Filter, unknown_words
from feed.recording.notes import CorruptRecording
from feed.recording.table_files import NEVER
from feed.wire.model import KINDS
from feed.wire.times import ns_of
from replay.history import FORMS, HistoryQuery, Piece
from replay.player import Player, RecordingReader

if TYPE_CHECKING:
    from feed.gateway.gateway import Gateway
    from feed.gateway.http import HttpProtocol
    from feed.gateway.ws import StreamProtocol
    from feed.recording.recording import RecordingFiles

_TIMES: Final = ["2026-11-20", "2026-11-20T14:30:00Z", "1795467600000000000"]
_STATUS: Final = {"no_recording": 404, "unknown_symbol": 404}
_ANSWERS: Final[Told] = {
    200: {"description": "The rows or messages, in the form asked for", "content": {kind: {} for kind in FORMS}},
    "4XX": ERROR_ANSWER,
    500: ERROR_ANSWER,
    503: {**ERROR_ANSWER, "description": "Too many histories are being read; again after `retry-after`"},
}
ARROW: Final = "feed.v1.arrow"
"""The subprotocol with binary frames of Arrow."""
_logger = logging.getLogger("feed.gateway")


def add_routes(app: FastAPI, gateway: Gateway) -> None:
    """Adds all of them to a gateway that has recordings."""
    assert gateway.recordings is not None
    _add_history(app, gateway, gateway.recordings)
    _add_replay(app, gateway, gateway.recordings)


def _add_replay(app: FastAPI, gateway: Gateway, recordings: Recordings) -> None:
    playing: set[asyncio.Task[None]] = set()
    gateway.metrics.gauge("feed_gateway_replays", "Connections to /v1/replay", lambda: len(playing))
    opening = 0

    @app.get("/v1/replay", include_in_schema=False)
    async def upgrade() -> Response:
        return upgrade_needed()

    @app.websocket("/v1/replay")
    async def replay(websocket: WebSocket) -> None:
        nonlocal opening
        try:
            answer = await admitted(gateway, websocket, (SUBPROTOCOL, ARROW))
        except LookupError:
            return
        if len(playing) + opening >= gateway.settings.limits.replays_max:
            await refuse(gateway, websocket, 503, "too many replays")
            return
        reader = RecordingReader(recordings, arrow=answer == ARROW)
        opening += 1
        try:
            recorded = await recordings.run(reader.open)
        except BaseException as error:
            recordings.later(reader.close)  # also what a thread opens only now, for a client that has gone
            if not isinstance(error, (FeedError, OSError)):
                raise
            _logger.exception("a replay cannot begin")
            damaged = isinstance(error, FeedError)
            words = "the recording is damaged" if damaged else "the recording cannot be opened now"
            await refuse(gateway, websocket, 500 if damaged else 503, words)
            return
        finally:
            opening -= 1
        try:
            await websocket.accept(answer)
        except BaseException:  # the client has gone
            recordings.later(reader.close)
            raise
        player = Player(gateway, recordings, reader, recorded)
        connection: StreamProtocol = websocket.scope["state"]["connection"]
        connection.start(player.session)
        if not connection.started:  # it went away meanwhile
            player.session.close()
        task = asyncio.create_task(player.run(connection), name="replay")
        playing.add(task)
        task.add_done_callback(playing.discard)


def _add_history(app: FastAPI, gateway: Gateway, recordings: Recordings) -> None:
    busy = 0

    @app.get("/v1/history", response_class=Response, responses=_ANSWERS)
    async def history(
        request: Request,
        channel: Annotated[str, Query(description="The kind", json_schema_extra={"enum": [*KINDS]})],
        symbols: Annotated[str, Query(description="Symbols or patterns (`KRAKEN:*`), separated by commas")] = "*",
        start: Annotated[
            str | None,
            Query(description="From when on: RFC 3339, a date, or nanoseconds", json_schema_extra={"examples": _TIMES}),
        ] = None,
        end: Annotated[
            str | None, Query(description="Until when, itself left out", json_schema_extra={"examples": _TIMES[1:]})
        ] = None,
    ) -> Response:
        """What was recorded of some channels of one kind.

        As an Arrow IPC stream with the columns of `arrow.json` (rows of updates; buffers are compressed with zstd), as
        `application/x-ndjson` (the messages, byte for byte as they were live) or as `text/csv`, by `Accept`. Times are
        those of the recording's clock: when ticks were received. The header `feed-recorded-until` says how far the
        recording goes, in nanoseconds. An answer that breaks off has no last chunk.
        """
        nonlocal busy
        try:
            wanted = _wanted(channel, symbols, start, end)
            form = _form(request.headers.get("accept", ""))
        except BadRequest as refused:
            return error_answer(_STATUS.get(refused.code, 400), refused.code, refused.message)
        except LookupError:
            answer = error_answer(406, "bad_message", f"wanted one of {', '.join(FORMS)}")
            answer.headers["vary"] = "accept"
            return answer
        if busy >= gateway.settings.limits.histories_max:
            return error_answer(503, "source_unavailable", "too many histories are being read")
        items = RecordingIterator(recordings, _Making(recordings, wanted, form))
        busy += 1

        def done() -> None:
            nonlocal busy
            busy -= 1
            items.close()

        try:
            found = await items.next()
        except BadRequest as refused:
            done()
            return error_answer(_STATUS.get(refused.code, 400), refused.code, refused.message)
        except CorruptRecording:
            done()
            _logger.exception("a history cannot begin")
            return error_answer(500, "internal", "the recording is damaged")
        except OSError:
            done()
            _logger.exception("a history cannot begin")
            return error_answer(503, "source_unavailable", "the recording cannot be opened now")
        except BaseException:
            done()
            raise
        assert isinstance(found, Range)
        connection: HttpProtocol | None = request.scope["state"].get("http")
        headers = {"cache-control": "no-store", "vary": "accept", "feed-recorded-until": str(found.end)}
        return _Pieces(_pieces(cast("RecordingIterator[Piece]", items), connection), done, form, headers)


class _Making:
    """Makes the pieces of one answer, after where the recording begins and ends."""

    def __init__(self, recordings: Recordings, wanted: HistoryQuery, form: str) -> None:
        self._recordings = recordings
        self._wanted = wanted
        self._form = form

    def __call__(self, recording: RecordingFiles) -> Iterator[Range | Piece]:
        wanted = self._wanted
        found = self._recordings.range_of(recording)
        known = {symbol for _, symbol in self._recordings.catalog.channels(recording)}
        if unknown := wanted.chosen.names - known:
            raise BadRequest("unknown_symbol", f"nothing is recorded of {unknown_words(unknown)}")
        yield found
        yield from FORMS[self._form](recording, wanted)


class _Pieces(StreamingResponse):
    """A response that says when it is over, however it ends."""

    def __init__(self, pieces: AsyncIterator[Piece], done: object, media_type: str, headers: dict[str, str]) -> None:
        super().__init__(pieces, headers=headers, media_type=media_type)
        self._done = done

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        try:
            await super().__call__(scope, receive, send)  # type: ignore[arg-type]
        finally:
            assert callable(self._done)
            self._done()


async def _pieces(pieces: RecordingIterator[Piece], connection: HttpProtocol | None) -> AsyncIterator[Piece]:
    try:
        while (piece := await pieces.next()) is not None:
            if connection is not None:
                connection.sends(len(piece))
            yield piece
            if connection is not None:
                connection.progressed()
    except CorruptRecording:
        _logger.exception("a history breaks off")
        raise


def _wanted(channel: str, symbols: str, start: str | None, end: str | None) -> HistoryQuery:
    if channel not in KINDS:
        raise BadRequest("unknown_channel", f"found {shown(channel, 40)}, wanted one of {', '.join(KINDS)}")
    names = [name for name in symbols.split(",") if name]
    if not names:
        raise BadRequest("bad_message", "symbols is empty")
    first = 0 if start is None else _time("start", start)
    last = NEVER if end is None else _time("end", end)
    if last <= first:
        raise BadRequest("bad_position", f"end {end} is not after start {start}")
    return HistoryQuery(Filter([channel], names), first, last)


def _time(name: str, text: str) -> int:
    try:
        return ns_of(text)
    except ValueError as error:
        raise BadRequest("bad_message", f"{name}: {error}") from error


def _form(accept: str) -> str:
    """The media type to answer with.

    Raises:
        LookupError: none of ours is acceptable.
    """
    best, form = 0.0, ""
    for kind in FORMS:
        quality = max((_quality(kind, one) for one in accept.split(",")), default=0.0) if accept.strip() else 1.0
        if quality > best:
            best, form = quality, kind
    if not form:
        raise LookupError(accept)
    return form


def _quality(kind: str, accepted: str) -> float:
    words, *parameters = (part.strip().lower() for part in accepted.split(";"))
    if words not in (kind, f"{kind.split('/')[0]}/*", "*/*"):
        return 0.0
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0
