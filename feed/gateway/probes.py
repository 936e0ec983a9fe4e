"""The paths by which a process is watched: `/livez`, `/readyz`, `/metrics`.

Owns the paths, parameters and answers, for every role alike. What they say is the role's (`Probed`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Protocol

from fastapi import FastAPI, Query, Response
from starlette.responses import PlainTextResponse

from feed.runtime.checks import is_ready, readyz_text
from feed.runtime.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from feed.runtime.checks import Check


class Probed(Protocol):
    """What is watched."""

    @property
    def alive(self) -> bool:
        """Whether its loop turns."""
        ...

    async def all_checks(self) -> list[Check]:
        """What has to be so for it to be relied on."""
        ...

    async def export(self) -> bytes:
        """All its numbers, in Prometheus' text format."""
        ...


def add_probes(app: FastAPI, probed: Probed) -> None:
    """Adds the three paths."""

    @app.head("/livez", include_in_schema=False)
    @app.get("/livez", response_class=PlainTextResponse, responses={503: {"description": "The loop stands still"}})
    async def livez() -> Response:
        """Whether the process can go on; false only if its loop stands still."""
        return PlainTextResponse("ok\n") if probed.alive else PlainTextResponse("the loop stands still\n", 503)

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", response_class=PlainTextResponse, responses={503: {"description": "Not ready"}})
    async def readyz(
        verbose: Annotated[str | None, Query(description="Any value: tell each check")] = None,
    ) -> Response:
        """Whether this process can do its part: a gateway, be sent clients; see `/v1/health` for whether data flows."""
        checks = await probed.all_checks()
        return PlainTextResponse(readyz_text(checks, verbose=verbose is not None), 200 if is_ready(checks) else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """All figures, in Prometheus' text format; of several workers their sums, and what has no sum by `worker`."""
        return Response(await probed.export(), media_type=CONTENT_TYPE)
