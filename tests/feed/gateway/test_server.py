"""What a server leaves behind, however it ends."""

from __future__ import annotations

import asyncio

import pytest

from feed.channels.distributor import Distributor
from feed.channels.hub import Hub, HubSettings
from feed.gateway.backfill import FeedLogs
from feed.gateway.gateway import Gateway
from feed.gateway.server import build_server, serve
from feed.runtime.metrics import Metrics
from feed.runtime.settings import ServeSettings

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("end", ["drain", "cancel", "failure"])
async def test_backfill_requests_end_with_it(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ServeSettings(port=0)
    past = FeedLogs("nowhere:1", {})
    gateway = Gateway(settings, Distributor(Hub(HubSettings())), Metrics(), past=past)
    assert gateway.backfill is not None
    ended: list[str] = []

    async def stop() -> None:
        ended.append(end)

    monkeypatch.setattr(gateway.backfill, "stop", stop)
    server = build_server(gateway)
    serving = asyncio.create_task(serve(server))
    await server.ready.wait()
    if end == "cancel":
        serving.cancel()
    elif end == "failure":
        monkeypatch.setattr(gateway.hub, "flush", None)  # no function: the task that sends fails
        gateway.fanout.notify()
    else:
        server.should_exit = True
    (found,) = await asyncio.gather(serving, return_exceptions=True)
    assert isinstance(
        found, {"cancel": asyncio.CancelledError, "failure": BaseExceptionGroup, "drain": type(None)}[end]
    )
    assert ended == [end]
