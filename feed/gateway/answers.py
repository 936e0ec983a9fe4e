"""Answers over HTTP: JSON, errors of the protocol, and what a route's description says of them.

Owns their forms, that no parameter is passed over, and that large ones are made once for all who ask meanwhile, or in
slices of time. Leaves what is in them to the routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from time import perf_counter
from typing import Any, Final, get_args, get_origin

import msgspec
from fastapi import Response
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection

from feed.channels.steps import Done, Steps
from feed.errors import BadRequest, shown
from feed.protocol.line import error_of

JSON: Final = "application/json"
UNAVAILABLE: Final = 503
_SLICE_SECONDS: Final = 0.004
_KEPT_BYTES_MAX: Final = 8 * 1024 * 1024
_KEPT_OVERHEAD_BYTES: Final = 300
ERROR_ANSWER: Final = {
    "content": {JSON: {"schema": {"type": "object"}}, "text/plain": {"schema": {"type": "string"}}},
    "description": "An `error` message of the protocol; plain text where the path itself is none",
}

Told = dict[int | str, dict[str, Any]]  # FastAPI's own type for what a route says of its answers


_SHOWN_MAX: Final = 40
_PAGES: Final = ("/board/", "/docs")


async def only_known(connection: HTTPConnection) -> None:
    """Refuses parameters that a route does not have, or has once: who misspells one would get another answer.

    Raises:
        BadRequest: names the first of them.
    """
    route = connection.scope.get("route")
    if connection.scope["type"] != "http" or not isinstance(route, APIRoute) or _is_page(route.path):
        return
    several = {field.alias: _is_list(field.field_info.annotation) for field in route.dependant.query_params}
    seen: set[str] = set()
    for name, _ in connection.query_params.multi_items():
        if name not in several:
            wanted = f"one of {', '.join(several)}" if several else "none"
            raise BadRequest("bad_message", f"found the parameter {shown(name, _SHOWN_MAX)}, wanted {wanted}")
        if name in seen and not several[name]:
            raise BadRequest("bad_message", f"found the parameter {shown(name, _SHOWN_MAX)} twice, wanted it once")
        seen.add(name)


def _is_page(path: str) -> bool:
    """Whether it is for people: browsers come with whatever parameters a link has."""
    return path == "/" or path.startswith(_PAGES)


def _is_list(annotation: object) -> bool:
    return any(get_origin(one) is list for one in (annotation, *get_args(annotation)))


def json_answer(body: object, status: int = 200) -> Response:
    """JSON that is not to be kept."""
    return Response(msgspec.json.encode(body), status, {"cache-control": "no-store"}, JSON)


def bytes_answer(body: bytes) -> Response:
    """The same, made already."""
    return Response(body, 200, {"cache-control": "no-store"}, JSON)


class SharedAnswers:
    """Work that is done in slices, once for all who ask while it goes on."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Future[Any]] = {}

    async def of(self, key: Hashable, make: Callable[[], Awaitable[Any]]) -> Any:
        """What `make` returns, or does already."""
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = asyncio.ensure_future(make())
            running.add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(running)


class Made:
    """Answers that are kept as long as what they tell is as it was, some megabytes of them."""

    def __init__(self) -> None:
        self._stamp: Hashable = None
        self._kept: dict[Hashable, bytes] = {}
        self._bytes = 0
        self._together = SharedAnswers()

    def of(self, key: Hashable, stamp: Hashable, make: Callable[[], bytes]) -> bytes:
        """The answer to one question, made where none is kept of this `stamp`, which is that of all questions."""
        found = self._found(key, stamp)
        if found is None:
            found = make()
            self._keep(key, found)
        return found

    async def later(self, key: Hashable, stamp: Hashable, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """The same of one that is made in slices."""
        found = self._found(key, stamp)
        if found is None:
            # not what somebody began to make before: that would be kept as of now
            made: bytes = await self._together.of((stamp, key), make)
            if stamp == self._stamp:
                self._keep(key, made)
            return made
        return found

    def _found(self, key: Hashable, stamp: Hashable) -> bytes | None:
        if stamp != self._stamp or self._bytes > _KEPT_BYTES_MAX:
            self._stamp, self._kept, self._bytes = stamp, {}, 0
        return self._kept.get(key)

    def _keep(self, key: Hashable, body: bytes) -> None:
        if body and key not in self._kept:
            self._kept[key] = body
            self._bytes += len(body) + _KEPT_OVERHEAD_BYTES


class Slices:
    """Some milliseconds of work at a time."""

    def __init__(self) -> None:
        self._until = perf_counter() + _SLICE_SECONDS

    @property
    def over(self) -> bool:
        """Whether it is the others' turn: then `rest`."""
        return perf_counter() > self._until

    async def rest(self) -> None:
        """Lets the others have theirs."""
        await asyncio.sleep(0)
        self._until = perf_counter() + _SLICE_SECONDS


def error_answer(status: int, code: str, message: str) -> Response:
    """An `error` of the protocol as the answer to a request over HTTP; with 503 it says when to come again here too."""
    error = error_of(code, message)
    answer = json_answer(error, status)
    if status == UNAVAILABLE and isinstance(error.retry_after_ms, int):
        answer.headers["retry-after"] = str(-(-error.retry_after_ms // 1000))
    return answer


def told(description: str, schema: dict[str, Any], kind: str = JSON) -> Told:
    """What a route says of its good answer."""
    return {200: {"description": description, "content": {kind: {"schema": schema}}}}


async def in_slices(steps: Steps[Done]) -> Done:
    """All of some work, which leaves others their turn."""
    slices = Slices()
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # that of the generator
        if slices.over:
            await slices.rest()
