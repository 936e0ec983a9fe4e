"""Answers over HTTP: JSON, errors of the protocol, and what a route's description says of them.

Owns their forms. Leaves what is in them to the routes.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import Response

from feed.protocol.line import error_of

JSON: Final = "application/json"
UNAVAILABLE: Final = 503
ERROR_ANSWER: Final = {
    "content": {JSON: {"schema": {"type": "object"}}, "text/plain": {"schema": {"type": "string"}}},
    "description": "An `error` message of the protocol; plain text where the path itself is none",
}

Told = dict[int | str, dict[str, Any]]  # FastAPI's own type for what a route says of its answers


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
