"""Runs a gateway: uvicorn with our protocol classes, the sending tasks, and the drain.

Owns the life of the process' doors: start, what ends them, and how clients are sent away. Leaves reading the log to
`feed.follow.follower`, whose task the caller runs beside `serve`.

The drain: not ready (so that nobody sends new clients), the listener closed, `goaway` with marks and close 1012 to
every client, what is queued for them written, the rest cut at `drain_ms`. A second signal cuts at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import socket
from collections.abc import Iterator
from functools import partial
from typing import Final

import uvicorn

from feed.gateway.app import Routes, create_app
from feed.gateway.gateway import Gateway
from feed.gateway.http import GatewayConfig
from feed.gateway.ws import StreamProtocol
from feed.runtime.gc_tuning import settle
from feed.runtime.tasks import ending_signals

_GOODBYES_BETWEEN_YIELDS: Final = 100
_POLL_SECONDS: Final = 0.02
_BACKLOG: Final = 65_535
"""The kernel takes what it allows (`net.core.somaxconn`). Who finds it full waits a second, then three, then seven."""
_logger = logging.getLogger("feed.gateway")


class GatewayServer(uvicorn.Server):
    """uvicorn's server, with the drain before its shutdown, and no signal raised again behind it."""

    def __init__(self, config: GatewayConfig) -> None:
        super().__init__(config)
        self.gateway = config.gateway
        self.ready = asyncio.Event()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        address = self.servers[0].sockets[0].getsockname()
        return int(address[1])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens; what lives by now lives long, so the collector need not look at it again."""
        await super().startup(sockets)
        settle()
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains, then ends as uvicorn does."""
        await self._drain()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, also at a SIGHUP, without raising it again: a drain that went well ends with 0."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(ValueError):  # signals belong to the main thread
                for number in ending_signals():
                    stack.callback(signal.signal, number, signal.signal(number, self.handle_exit))
            yield

    def handle_exit(self, sig: int, frame: object) -> None:
        """The first signal drains; the next one cuts."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def _drain(self) -> None:
        gateway = self.gateway
        gateway.health.draining = True
        for server in self.servers:
            server.close()
        clients = list(gateway.connections)
        _logger.info("draining %d connections", len(clients))
        deadline = asyncio.get_running_loop().time() + gateway.settings.drain_ms / 1000
        for count, client in enumerate(clients, 1):
            gateway.fanout.when_idle(partial(client.go_away, "shutdown", self._after_ms()))
            if count % _GOODBYES_BETWEEN_YIELDS == 0:
                await asyncio.sleep(0)
        while any(not client.disconnected for client in clients) and not self.force_exit:
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(_POLL_SECONDS)
        for client in clients:
            if not client.disconnected:
                client.transport.abort()

    def _after_ms(self) -> int:
        """A random moment, so that a whole gateway's clients do not come back at once."""
        return random.randrange(self.gateway.settings.reconnect_spread_ms + 1)  # noqa: S311  # no secret


def build_server(gateway: Gateway, *more: Routes) -> GatewayServer:
    """uvicorn with our protocol classes for this gateway; it logs through `logging`, and no requests.

    `more`: routes of others.
    """
    settings = gateway.settings
    config = GatewayConfig(
        create_app(gateway, *more),
        gateway,
        host=settings.host,
        port=settings.port,
        backlog=_BACKLOG,
        ws=StreamProtocol,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        ws_ping_timeout=None,
    )
    return GatewayServer(config)


async def serve(
    server: GatewayServer, listener: socket.socket | None = None, *, first: asyncio.Event | None = None
) -> None:
    """Runs the server and its tasks until a signal, or until `server.should_exit` is set; then drains.

    `listener`: a socket that is bound; else it is bound here. `first`: listens only when this has happened.

    Raises:
        Exception: what one of the tasks raised; everything is stopped then.
    """
    gateway = server.gateway
    try:
        async with asyncio.TaskGroup() as tasks:
            helping = [
                tasks.create_task(gateway.fanout.run(), name="fanout"),
                tasks.create_task(gateway.pulse.run(), name="pulse"),
                tasks.create_task(gateway.watchdog.run(), name="watchdog"),
            ]
            if first is not None:
                await _until(first, server)
            await server.serve(None if listener is None else [listener])
            for task in helping:
                task.cancel()
    finally:
        if gateway.backfill is not None:
            await gateway.backfill.stop()
        if gateway.recordings is not None:
            gateway.recordings.close()


async def _until(first: asyncio.Event, server: GatewayServer) -> None:
    """Waits for something before the server listens, or for the signal that it need not."""
    with server.capture_signals():
        while not first.is_set() and not server.should_exit:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await first.wait()
