"""A worker: one of the processes of a gateway, at a port that it shares.

Owns what a worker is told (`Task`), what it runs, and when it ends: at a signal, or when its parent is gone. It follows
the feed logs by itself, tells its parent by a line when it listens and another when it is ready, and the other workers
how it stands (`feed.gateway.worker_stats`).
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from feed.gateway.app import Routes, report_of
from feed.gateway.gateway import Gateway
from feed.gateway.server import GatewayServer, serve
from feed.gateway.worker_stats import Report, WorkerStats
from feed.run.child import tell, until_parent_ends
from feed.run.ports import bound
from feed.run.up import build, follower
from feed.runtime.settings import Settings
from feed.runtime.tasks import together

LISTENING: Final = b"listening"
READY: Final = b"ready"


class Task(Struct, frozen=True, kw_only=True):
    """What a worker is to be. `late`: it listens only when it is ready."""

    settings: dict[str, Any]
    folder: str
    """Where the workers of one parent find each other."""
    number: int
    numbers: list[int]
    late: bool


async def work(task: Task, settings: Settings, routes: Sequence[Routes]) -> None:
    """Is one of the workers, until a signal or the end of stdin.

    Raises:
        Unreachable: no broker answered at the start.
        FeedError: the port is no longer the parent's.
    """
    roles = build(settings, normalizes=False, serves=True, routes=routes)
    server = roles.server
    assert server is not None
    gateway, folder = server.gateway, Path(task.folder)
    stats = gateway.siblings = WorkerStats(folder, task.number, task.numbers, roles.metrics)
    listener = bound(settings.serve.host, settings.serve.port)

    async def told(clients: int) -> Report:
        return await report_of(gateway, task.number, clients, listens=server.ready.is_set())

    async with stats.listening(told):
        working: list[Coroutine[Any, Any, object]] = [
            follower(settings, gateway, lenient=task.late).run(),
            serve(server, listener, first=gateway.health.read if task.late else None),
            _tell(server, gateway),
            _drain_as_orphan(server, folder),
        ]
        await together(working)


async def _tell(server: GatewayServer, gateway: Gateway) -> None:
    for event, word in ((server.ready, LISTENING), (gateway.health.read, READY)):
        await event.wait()
        tell(word)
    await asyncio.Event().wait()


async def _drain_as_orphan(server: GatewayServer, folder: Path) -> None:
    """Drains when the parent is gone; nobody else will clear away the folder."""
    await until_parent_ends()
    server.should_exit = True
    shutil.rmtree(folder, ignore_errors=True)
    await asyncio.Event().wait()
