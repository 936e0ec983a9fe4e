"""A real gateway on loopback, in a thread of its own, without Kafka: what tests speak to over sockets.

`Running` starts uvicorn with the gateway's protocol classes; `do` runs a function on its loop (to feed the hub), `cpu`
tells the CPU time of its thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import uvloop

from feed.channels.distributor import Distributor
from feed.channels.hub import Hub
from feed.gateway.gateway import Gateway
from feed.gateway.recordings import Recordings
from feed.gateway.server import GatewayServer, build_server, serve
from feed.runtime.metrics import Metrics
from feed.runtime.settings import ServeSettings
from replay.routes import add_routes

Result = TypeVar("Result")


class Running:
    """A gateway that listens on a free port of 127.0.0.1 while the block runs."""

    def __init__(
        self,
        settings: ServeSettings | None = None,
        *,
        hub: Hub | None = None,
        ready: bool = True,
        recordings: Path | None = None,
    ) -> None:
        """`recordings`: a folder that it serves too."""
        self._settings = settings or ServeSettings(port=0, heartbeat_ms=60_000, ping_interval_ms=60_000)
        self._hub = hub
        self._ready = ready
        self._recordings = recordings
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)
        self.failure: BaseException | None = None
        self.gateway: Gateway
        self.server: GatewayServer
        self.loop: asyncio.AbstractEventLoop
        self.port = 0

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._listens.wait(10), "gateway does not listen"
        if self.failure is not None:
            raise self.failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self.failure is not None and error is None:
            raise self.failure

    def stop(self) -> None:
        """Drains it, as a signal would."""
        self.server.should_exit = True
        self._thread.join(15)
        assert not self._thread.is_alive(), "gateway does not end"

    def do(self, act: Callable[[], Result]) -> Result:
        """Runs `act` on the gateway's loop."""

        async def acting() -> Result:
            return act()

        return asyncio.run_coroutine_threadsafe(acting(), self.loop).result(10)

    def shown(self) -> None:
        """Waits until readers were sent what the hub was told until now, so that the machine's load decides nothing."""
        asyncio.run_coroutine_threadsafe(self.gateway.fanout.shown(), self.loop).result(10)

    def cpu(self) -> float:
        """CPU seconds that the gateway's thread has used."""
        assert self._thread.ident is not None
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident))

    def wait_until(self, holds: Callable[[], bool], seconds: float = 5.0) -> bool:
        """Waits for something that the gateway's thread brings about."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.do(holds):
                return True
            time.sleep(0.005)
        return False

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as failure:  # handed to the test
            self.failure = failure
        finally:
            self._listens.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.gateway = make_gateway(
            self._settings, None if self._hub is None else Distributor(self._hub), self._recordings
        )
        if self._ready:
            self.gateway.health.kafka_answered()
            self.gateway.health.caught_up()
        self.server = build_server(self.gateway, *([add_routes] if self._recordings else []))
        serving = asyncio.create_task(serve(self.server))
        ready = asyncio.create_task(self.server.ready.wait())
        await asyncio.wait((serving, ready), return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            self.port = self.server.port
        else:
            ready.cancel()
        self._listens.set()
        await serving


def make_gateway(
    settings: ServeSettings, distributor: Distributor | None = None, recordings: Path | None = None
) -> Gateway:
    """A gateway with an empty hub, where none is given; call it on the loop that it shall live on."""
    from feed.channels.hub import HubSettings

    folder = Recordings(str(recordings)) if recordings is not None else None
    return Gateway(settings, distributor or Distributor(Hub(HubSettings())), Metrics(), folder)
