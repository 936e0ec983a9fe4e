"""The routes: what can be asked over HTTP, and the door of the stream.

Owns paths, parameters and answers. All of it reads the gateway and changes nothing. The stream's route makes the
checks of the handshake, accepts, starts the connection and is done: messages never pass through here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import msgspec
from fastapi import Depends, FastAPI, Request, Response, WebSocket
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse

import schemas
from feed.errors import BadRequest
from feed.gateway.answers import (
    ERROR_ANSWER,
    JSON,
    Made,
    bytes_answer,
    error_answer,
    in_slices,
    json_answer,
    only_known,
    told,
)
from feed.gateway.clients import add_clients, worst
from feed.gateway.flow import add_health
from feed.gateway.origin import allowed, subprotocol
from feed.gateway.pages import HEADERS, StaticPages, reference
from feed.gateway.probes import add_probes
from feed.gateway.worker_stats import PARENT, Report, WorkerStats
from feed.gateway.ws import SUBPROTOCOL
from feed.runtime.checks import failing, in_one_line, is_ready
from feed.wire.model import KINDS, PROTOCOL

if TYPE_CHECKING:
    from feed.gateway.gateway import Gateway
    from feed.gateway.ws import StreamProtocol

_YAML: Final = "application/yaml"
_SCHEMAS_AT: Final = "/v1/schemas/"
_RETRY_AFTER: Final = {"retry-after": "5"}

Routes = Callable[[FastAPI, "Gateway"], None]
"""Adds routes to the application of a gateway."""


def create_app(gateway: Gateway, *more: Routes) -> FastAPI:
    """The application of one gateway; `more` are routes of others."""
    app = FastAPI(
        title="feed gateway",
        version="1",
        description="Normalized market data: snapshots and the state of the service. The data flows over "
        + ("/v1/stream." if gateway.live else "/v1/replay."),
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(only_known)],
        responses={400: ERROR_ANSWER},
    )
    add_probes(app, gateway)
    pages = StaticPages()
    _add_status(app, gateway)
    add_clients(app, gateway)
    _add_descriptions(app, pages)
    for add in more:
        add(app, gateway)
    if gateway.live:
        add_health(app, gateway)
        _add_data(app, gateway)
        _add_board(app, pages)
        _add_stream(app, gateway)

    @app.websocket("/{path:path}")
    async def elsewhere(websocket: WebSocket) -> None:
        at = "/v1/stream" if gateway.live else "/v1/replay"
        await refuse(gateway, websocket, 404, f"the stream is at {at}")

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: Exception) -> Response:
        status = cast(HTTPException, error).status_code
        return PlainTextResponse(f"{cast(HTTPException, error).detail}\n", status, cast(HTTPException, error).headers)

    @app.exception_handler(BadRequest)
    async def odd(request: Request, error: Exception) -> Response:
        return error_answer(400, cast(BadRequest, error).code, cast(BadRequest, error).message)

    @app.exception_handler(RequestValidationError)
    async def unreadable(request: Request, error: Exception) -> Response:
        first = cast(RequestValidationError, error).errors()[0]
        return error_answer(400, "bad_message", f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}")

    return app


def _add_data(app: FastAPI, gateway: Gateway) -> None:
    hub = gateway.hub
    listed, snapshots = Made(), Made()

    @app.get("/v1/symbols", responses=told("Symbols in alphabetical order", {"type": "array"}))
    async def symbols() -> Response:
        """The symbols that can be subscribed now, with their channels and their source."""

        def made() -> bytes:
            return msgspec.json.encode(
                [{"symbol": found.symbol, "channels": found.kinds, "source": found.source} for found in hub.symbols()]
            )

        return bytes_answer(listed.of("", (hub.moves, len(hub.names)), made))

    @app.get(
        "/v1/snapshot/{channel}/{symbol:path}",
        responses={
            **told("The channel's `snapshot` (in parts where it is large) and its `state`", {"type": "array"}),
            "4XX": ERROR_ANSWER,
        },
    )
    async def snapshot(
        channel: Annotated[str, PathParameter(description=", ".join(KINDS))],
        symbol: Annotated[str, PathParameter(description="A symbol as in `/v1/symbols`; `/` need not be escaped")],
    ) -> Response:
        """What a client that joined now would get first, as the same messages."""
        if channel not in KINDS:
            return error_answer(404, "unknown_channel", f"found {channel!r}, wanted one of {', '.join(KINDS)}")

        async def made() -> bytes:
            messages = await in_slices(hub.snapshot(channel, symbol))
            return b"" if messages is None else b"[" + b",".join(messages) + b"]"

        body = await snapshots.later((channel, symbol), hub.current.number, made)
        if not body:
            return error_answer(404, "unknown_symbol", f"no channel {channel} of {symbol!r}")
        return bytes_answer(body)


def _add_status(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/v1/status", responses=told("The gateway's state", {"type": "object"}))
    async def status() -> Response:
        """What this gateway reads, serves and thinks of itself; of several workers the one that answers does, and a
        line tells of each."""
        told = status_of(gateway)
        if gateway.siblings is not None:
            told |= await _status_of_all(gateway.siblings, told["ready"])
        return json_answer(told)


def status_of(gateway: Gateway) -> dict[str, Any]:
    """How this process stands, as `/v1/status` tells it."""
    checks = gateway.checks()
    return {
        "server": gateway.settings.server,
        "protocol": PROTOCOL,
        "uptime_s": round(time.monotonic() - gateway.started_at),
        "ready": is_ready(checks),
        "checks": checks,
        "sources": {
            name: {"seq": source.pos, "end": source.end, "state": source.state, "reason": source.reason}
            for name, source in gateway.hub.sources.items()
        },
        "connections": len(gateway.connections),
        "limits": gateway.settings.limits.model_dump(),
    }


async def report_of(gateway: Gateway, number: int, clients: int, *, listens: bool) -> Report:
    """The same for the other workers, with so many of its clients."""
    shown = await worst(gateway, clients)
    await gateway.merged.told()
    # from here on without a pause: what is told of counts is no older than what was told before
    checks = gateway.checks()
    return Report(
        worker=number,
        pid=os.getpid(),
        ready=is_ready(checks),
        listens=listens,
        found=in_one_line(failing(checks)),
        uptime_s=round(time.monotonic() - gateway.started_at),
        families=gateway.metrics.families(),
        connections=len(gateway.connections),
        clients=shown,
        flow=gateway.flow(),
    )


async def _status_of_all(siblings: WorkerStats, ready: bool) -> dict[str, Any]:
    found = await siblings.ask()
    reports = [report for report in found.values() if isinstance(report, Report)]
    shown = ("worker", "pid", "listens", "ready", "found", "uptime_s", "connections")
    return {
        "ready": ready and is_ready(siblings.checks_of(found)),
        "connections": sum(report.connections for report in reports),
        "workers": [{name: getattr(report, name) for name in shown} for report in reports if report.worker != PARENT],
    }


def _add_board(app: FastAPI, pages: StaticPages) -> None:
    @app.get("/", response_class=HTMLResponse)
    async def board(request: Request) -> Response:
        """The live board."""
        return pages.answer("index.html", request)


def _add_descriptions(app: FastAPI, pages: StaticPages) -> None:
    @app.get("/board/{name}", include_in_schema=False)
    async def board_file(name: str, request: Request) -> Response:
        return pages.answer(name, request)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(reference(app.openapi()), headers=HEADERS)

    @app.get("/v1/asyncapi.yaml", response_class=Response, responses=told("AsyncAPI 3", {"type": "object"}, _YAML))
    async def asyncapi() -> Response:
        """The stream's messages, as AsyncAPI 3."""
        return Response(schemas.asyncapi(files_at=_SCHEMAS_AT), media_type=_YAML)

    names, examples = frozenset(schemas.names()), frozenset(schemas.examples())

    @app.get(_SCHEMAS_AT + "{name}.json", responses={404: {"description": "No such schema"}})
    async def schema(name: str) -> Response:
        """The JSON Schema of one message, as `asyncapi.yaml` refers to it."""
        if name not in names:
            raise HTTPException(404, "no such schema")
        return json_answer(schemas.schema(name))

    @app.get(_SCHEMAS_AT + "examples/{name}.json", responses={404: {"description": "No such example"}})
    async def example(name: str) -> Response:
        """An example that the documents refer to."""
        if name not in examples:
            raise HTTPException(404, "no such example")
        return Response(schemas.example(name), media_type=JSON)


def _add_stream(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/v1/stream", include_in_schema=False)
    async def upgrade() -> Response:
        return upgrade_needed()

    @app.websocket("/v1/stream")
    async def stream(websocket: WebSocket) -> None:
        try:
            answer = await admitted(gateway, websocket, (SUBPROTOCOL,))
        except LookupError:
            return
        if not await gateway.serves():
            await refuse(gateway, websocket, 503, "the log is still being read")
            return
        await websocket.accept(answer)
        connection: StreamProtocol = websocket.scope["state"]["connection"]
        connection.start()


def upgrade_needed() -> Response:
    """The answer to who asks for a stream by plain HTTP."""
    told = "this is a WebSocket; its messages are described at /v1/asyncapi.yaml\n"
    return PlainTextResponse(told, 426, {"upgrade": "websocket"})


async def admitted(gateway: Gateway, websocket: WebSocket, subprotocols: Sequence[str]) -> str | None:
    """The checks of a handshake that hold for every stream; returns the subprotocol to accept with.

    Raises:
        LookupError: it was refused, and the client has been told.
    """
    if not allowed(websocket.scope["headers"], gateway.settings.origins, gateway.settings.hosts):
        await refuse(gateway, websocket, 403, "this origin is not allowed")
        raise LookupError
    try:
        answer = subprotocol(websocket.scope["subprotocols"], subprotocols)
    except LookupError as unknown:
        await refuse(gateway, websocket, 400, f"unknown subprotocol, wanted {unknown}")
        raise
    if gateway.health.draining or gateway.full:
        await refuse(gateway, websocket, 503, "going away" if gateway.health.draining else "this gateway is full")
        raise LookupError
    return answer


async def refuse(gateway: Gateway, websocket: WebSocket, status: int, text: str) -> None:
    """Answers a handshake with an HTTP status and the reason, instead of accepting it."""
    gateway.counts.refused.of(str(status)).value += 1
    headers = _RETRY_AFTER if status == 503 else None
    await websocket.send_denial_response(PlainTextResponse(f"{text}\n", status, headers))
