"""The pages that people look at: the board and the reference of the HTTP routes.

Owns files in memory and their headers. Nothing is loaded from elsewhere: both work on a machine without a network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from html import escape
from importlib.resources import files
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

_TYPES: Final = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws: wss:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class StaticPages:
    """The files of the board, read once."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, str, str]] = {}
        for file in files("feed.gateway").joinpath("board").iterdir():
            suffix = file.name[file.name.rfind(".") :]
            if suffix in _TYPES:
                body = file.read_bytes()
                tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
                self._files[file.name] = (body, f"{_TYPES[suffix]}; charset=utf-8", tag)

    def names(self) -> Iterator[tuple[str, int]]:
        """Each file with its size."""
        for name, (body, _, _) in self._files.items():
            yield name, len(body)

    def answer(self, name: str, request: Request) -> Response:
        """The file, or 304 where the browser has it, or 404."""
        found = self._files.get(name)
        if found is None:
            return Response("no such file\n", 404, media_type="text/plain")
        body, kind, tag = found
        headers = {**HEADERS, "etag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, headers={**headers, "content-type": kind})


def reference(spec: dict[str, Any]) -> str:
    """An HTML page of an OpenAPI document."""
    rows = "".join(
        _route(path, method, told) for path, methods in spec["paths"].items() for method, told in methods.items()
    )
    info = spec["info"]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}: HTTP</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="/board/icon.svg">'
        '<link rel="stylesheet" href="/board/board.css">'
        f'<main class="reference"><h1>{escape(info["title"])} <small>{escape(info["version"])}</small></h1>'
        f"<p>{escape(info.get('description', ''))}</p>"
        "<p>The messages of the WebSocket streams are described in "
        '<a href="/v1/asyncapi.yaml">asyncapi.yaml</a>; this page is made from '
        '<a href="/openapi.json">openapi.json</a>. '
        '<a href="/">Home</a>.</p>'
        f"{rows}</main></html>"
    )


def _route(path: str, method: str, told: dict[str, Any]) -> str:
    parameters = "".join(
        f"<tr><td><code>{escape(p['name'])}</code><td>{escape(p['in'])}<td>{escape(p.get('description', ''))}"
        f"<td><code>{escape(json.dumps(p.get('schema', {})))}</code>"
        for p in told.get("parameters", ())
    )
    answers = "".join(
        f"<tr><td><code>{escape(status)}</code><td>{', '.join(map(escape, answer.get('content', {})))}"
        f"<td colspan=2>{escape(answer.get('description', ''))}"
        for status, answer in told.get("responses", {}).items()
    )
    return (
        f"<section><h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(told.get('description', ''))}</p>"
        f"<table>{parameters}{answers}</table></section>"
    )
