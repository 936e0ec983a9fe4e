"""The port for those who look after a process: whether there is one, and what a role without a gateway tells there."""

from __future__ import annotations

import asyncio
import socket
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from feed.errors import FeedError
from feed.run.watched import Watched, admin_of
from feed.runtime.checks import Check
from feed.runtime.metrics import Metrics
from feed.runtime.settings import load

pytestmark = pytest.mark.anyio


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def test_a_role_tells_its_checks_and_numbers() -> None:
    checks = [Check("kafka", False, "has not answered yet")]
    metrics = Metrics()
    watched = Watched(lambda: checks, metrics)
    assert watched.alive
    assert await watched.all_checks() == checks
    assert b"feed_ready 0.0" in await watched.export()
    checks[:] = [Check("kafka", True, "answers")]
    assert b"feed_ready 1.0" in await watched.export()


def test_without_a_setting_there_is_no_port() -> None:
    with admin_of(load({"admin.port": 0}).settings) as admin:
        assert admin is None


async def test_the_port_answers_until_it_is_ended_and_is_free_then() -> None:
    settings = load({"admin.port": free_port()}).settings
    metrics = Metrics()
    with admin_of(settings) as admin:
        assert admin is not None
        with pytest.raises(FeedError, match="in use; another one with --admin-port"), admin_of(settings):
            pass
        running = asyncio.create_task(admin.run(Watched(list, metrics), metrics))
        assert await asyncio.to_thread(get, admin.port, "/livez") == (200, "ok\n")
        assert await asyncio.to_thread(get, admin.port, "/readyz") == (200, "ok\n")
        status, text = await asyncio.to_thread(get, admin.port, "/metrics")
        assert (status, "feed_ready 1.0" in text) == (200, True)
        assert (await asyncio.to_thread(get, admin.port, "/docs"))[0] == 404
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    with admin_of(settings) as again:
        assert again is not None
