"""A port for those who look after a process, whatever its role: `/livez`, `/readyz`, `/metrics` and nothing else.

Owns its server, which has the bounds of the gateway's (`feed.gateway.http`): who can reach it costs no more than a
client. What is told is the role's (`Probed`). Only a process that has such a port imports this: it brings a web server.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

from feed.errors import FeedError
from feed.gateway.doors import Doors
from feed.gateway.http import GatewayConfig
from feed.gateway.probes import Probed, add_probes
from feed.run.ports import family_of, refuse_used_port
from feed.runtime.metrics import Metrics
from feed.runtime.settings import LimitSettings, ServeSettings

if TYPE_CHECKING:
    from feed.gateway.gateway import Gateway
    from feed.runtime.settings import AdminSettings

_LIMITS: Final = LimitSettings(connections_max=64, http_connections_max=64, connections_per_address_max=0)
_BACKLOG: Final = 128


class _AsGateway(NamedTuple):
    """What `feed.gateway.http` asks of a gateway."""

    settings: ServeSettings
    doors: Doors
    metrics: Metrics


class _Server(uvicorn.Server):
    """Signals are the role's, and it ends with it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Admin:
    """The port. It is taken at once, so that nothing starts where it is in use; `run` answers until it is cancelled."""

    def __init__(self, settings: AdminSettings, hosts: tuple[str, ...]) -> None:
        """Listens. `hosts`: by which names it is known.

        Raises:
            FeedError: somebody listens there, or the address is not ours.
        """
        refuse_used_port(settings.host, settings.port, "--admin-port")
        self._hosts = hosts
        self._listener = socket.create_server((settings.host, settings.port), family=family_of(settings.host))

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    async def run(self, probed: Probed, metrics: Metrics) -> None:
        """Answers; `metrics`: where it counts whom it refused.

        Raises:
            FeedError: it has ended by itself.
        """
        asked = _AsGateway(ServeSettings(limits=_LIMITS, hosts=self._hosts), Doors(_LIMITS), metrics)
        config = GatewayConfig(_app(probed), cast("Gateway", asked), ws="none", backlog=_BACKLOG)
        server = _Server(config)
        try:
            await server.serve([self._listener])
        except asyncio.CancelledError:
            server.force_exit = True
            await server.shutdown([self._listener])
            raise
        finally:
            self._listener.close()
        raise FeedError("the admin port has ended")

    def close(self) -> None:
        """Listens no more, where it never ran."""
        self._listener.close()


@contextlib.contextmanager
def opened(settings: AdminSettings, hosts: tuple[str, ...]) -> Iterator[Admin]:
    """The port for as long as the block runs. `hosts`: by which names it is known.

    Raises:
        FeedError: it cannot be listened on.
    """
    admin = Admin(settings, hosts)
    try:
        yield admin
    finally:
        admin.close()


def _app(probed: Probed) -> FastAPI:
    app = FastAPI(title="feed", docs_url=None, redoc_url=None, openapi_url=None)
    add_probes(app, probed)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: Exception) -> Response:
        status = cast(HTTPException, error).status_code
        return PlainTextResponse(f"{cast(HTTPException, error).detail}\n", status, cast(HTTPException, error).headers)

    return app
