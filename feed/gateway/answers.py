"""Answers over HTTP: JSON, errors of the protocol, and what a route's description says of them.

Owns their forms, and that no parameter is passed over. Leaves what is in them to the routes.
"""

from __future__ import annotations

from typing import Any, Final, get_args, get_origin

import msgspec
from fastapi import Response
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection

from feed.errors import BadRequest
from feed.protocol.line import error_of

JSON: Final = "application/json"
UNAVAILABLE: Final = 503
ERROR_ANSWER: Final = {
    "content": {JSON: {"schema": {"type": "object"}}, "text/plain": {"schema": {"type": "string"}}},
    "description": "An `error` message of the protocol; plain text where the path itself is none",
}

Told = dict[int | str, dict[str, Any]]  # FastAPI's own type for what a route says of its answers


_CHARS_SHOWN_MAX: Final = 40
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
        shown = repr(name[:_CHARS_SHOWN_MAX])
        if name not in several:
            wanted = f"one of {', '.join(several)}" if several else "none"
            raise BadRequest("bad_message", f"found the parameter {shown}, wanted {wanted}")
        if name in seen and not several[name]:
            raise BadRequest("bad_message", f"found the parameter {shown} twice, wanted it once")
        seen.add(name)


def _is_page(path: str) -> bool:
    """Whether it is for people: browsers come with whatever parameters a link has."""
    return path == "/" or path.startswith(_PAGES)


def _is_list(annotation: object) -> bool:
    return any(get_origin(one) is list for one in (annotation, *get_args(annotation)))


def json_answer(body: object, status: int = 200) -> Response:
    """JSON that is not to be kept."""
    return Response(msgspec.json.encode(body), status, {"cache-control": "no-store"}, JSON)


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
