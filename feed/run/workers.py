"""A gateway of several processes at one port: workers, and the parent that starts and watches them.

Owns how a worker is told what to be, started, started again and ended, and that their numbers outlive them. The kernel
shares connections out among workers (`SO_REUSEPORT`); each follows the feed logs by itself. Leaves how workers tell of
each other to `feed.gateway.worker_stats`.

A worker is told its task by a line on its stdin, ends when that ends (so also when its parent was killed), and tells by
lines on its stdout when it listens and when it is ready. One that is started again listens only when it has read the
logs: until then the others get its share of the clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from feed.errors import ConfigError, FeedError, Unreachable
from feed.gateway.app import Routes, report_of
from feed.gateway.gateway import Gateway
from feed.gateway.server import GatewayServer, serve
from feed.gateway.worker_stats import PARENT, Report, WorkerStats, retire, stands_still
from feed.run.up import build, follower, refuse_used_port
from feed.runtime.checks import Check, failing, in_one_line, is_ready
from feed.runtime.metrics import Metrics, prometheus_text
from feed.runtime.settings import Settings, leaves, load
from feed.runtime.tasks import end, first_cause, together

_CHILD: Final = "from feed.cli import main; main()"
_AGAIN_S: Final = 0.5
_AGAIN_MAX_S: Final = 10.0
_LONG_S: Final = 30.0
"""Who lived that long is started again at once: what ended it has nothing to do with its start."""
_DRAIN_SPARE_S: Final = 10.0
_LOOK_S: Final = 1.0
_STALLS: Final = 3
"""A worker that stands still for so many times what is called not alive is killed."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_LISTENING: Final = b"listening\n"
_READY: Final = b"ready\n"
log: Final = logging.getLogger("feed.workers")


class Task(Struct, frozen=True, kw_only=True):
    """What a worker is to be. `late`: it listens only when it is ready."""

    settings: dict[str, Any]
    folder: str
    number: int
    numbers: list[int]
    late: bool


# ---- the parent


class Workers:
    """The workers of one port; `tell` is called with the port as soon as all of them listen.

    Watched (`feed.gateway.probes`) they are one service. `checks`: what the parent itself has to tell, where it runs
    other roles.
    """

    alive = True

    def __init__(
        self,
        settings: Settings,
        tell: Callable[[int], None],
        *,
        metrics: Metrics,
        checks: Sequence[Callable[[], Check]] = (),
    ) -> None:
        self._settings = settings
        self._tell = tell
        self._metrics = metrics
        self._checks = checks
        self._restarts = metrics.counter("feed_worker_restarts", "Times that a worker ended and was started again")
        self._siblings: WorkerStats | None = None
        self._count = settings.serve.workers
        self._numbers = [PARENT, *range(1, self._count + 1)]
        self._began_at = time.monotonic()
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._listen: set[int] = set()
        self._was_ready = False
        self._ending = asyncio.Event()

    async def run(self) -> None:
        """Runs them until a signal, which they get too; a second one cuts their drain.

        Raises:
            FeedError: the port is in use, a worker could not begin at all, or one did not end.
        """
        serve = self._settings.serve
        refuse_used_port(serve.host, serve.port)
        loop = asyncio.get_running_loop()
        with (
            reserved(serve.host, serve.port) as port,
            tempfile.TemporaryDirectory(prefix="feed-", ignore_cleanup_errors=True) as folder,
        ):
            for number in _SIGNALS:
                loop.add_signal_handler(number, self._pass_on)
            try:
                async with self._telling(Path(folder)), asyncio.TaskGroup() as tasks:
                    for worker in range(1, self._count + 1):
                        tasks.create_task(self._keep(worker, port, Path(folder)), name=f"worker-{worker}")
            except BaseExceptionGroup as group:
                raise first_cause(group) from group
            finally:
                for number in _SIGNALS:
                    loop.remove_signal_handler(number)

    @contextlib.asynccontextmanager
    async def _telling(self, folder: Path) -> AsyncIterator[None]:
        siblings = WorkerStats(folder, PARENT, self._numbers, self._metrics)
        async with siblings.listening(self._report):
            self._siblings = siblings
            yield

    async def all_checks(self) -> list[Check]:
        """What has to be so of all of them."""
        if self._siblings is None:
            return [Check("workers", False, "not started yet")]
        own = [checked() for checked in self._checks]
        return [*own, *self._siblings.checks_of(await self._siblings.ask())]

    async def export(self) -> bytes:
        """The numbers of all of them."""
        return self._metrics.export() if self._siblings is None else prometheus_text(await self._siblings.families())

    async def _report(self, clients: int) -> Report:
        checks = [checked() for checked in self._checks]
        return Report(
            worker=PARENT,
            pid=os.getpid(),
            ready=is_ready(checks),
            found=in_one_line(failing(checks)),
            uptime_s=round(time.monotonic() - self._began_at),
            families=self._metrics.families(),
            connections=0,
        )

    def _pass_on(self) -> None:
        self._ending.set()
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)

    async def _keep(self, worker: int, port: int, folder: Path) -> None:
        """One worker and those that follow it."""
        loop = asyncio.get_running_loop()
        pause, late = _AGAIN_S, False
        while not self._ending.is_set():
            began = loop.time()
            code = await self._once(worker, port, folder, late=late)
            if self._ending.is_set():
                return
            if code > 0 and not self._was_ready:
                raise _failure(worker, code)
            pause = _AGAIN_S if loop.time() - began > _LONG_S else min(pause * 2, _AGAIN_MAX_S)
            self._restarts.value += 1
            log.error("worker %d ended with %d; it is started again in %.1f s", worker, code, pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ending.wait()
            late = True

    async def _once(self, worker: int, port: int, folder: Path, *, late: bool) -> int:
        settings = {**dict(leaves(self._settings)), "serve.port": port}
        task = Task(settings=settings, folder=str(folder), number=worker, numbers=self._numbers, late=late)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _CHILD, "serve", "--child"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the parent's, who passes it on: twice would cut the drain
        )
        self._running[worker] = process
        try:
            return await self._watch(port, process, task)
        finally:
            del self._running[worker]
            if process.returncode is None:
                await self._end(process)
            retire(folder, worker, process.pid)

    async def _watch(self, port: int, process: asyncio.subprocess.Process, task: Task) -> int:
        worker = task.number
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(ConnectionError):
            process.stdin.write(msgspec.json.encode(task) + b"\n")
            await process.stdin.drain()
        if self._ending.is_set():
            process.terminate()
        begun = asyncio.Event()
        watching = [
            asyncio.create_task(self._cut(worker, process), name=f"cut-{worker}"),
            asyncio.create_task(self._look(worker, Path(task.folder), process, begun), name=f"look-{worker}"),
        ]
        try:
            while line := await process.stdout.readline():
                begun.set()
                if line == _LISTENING:
                    self._listens(worker, port)
                if line == _READY:
                    self._was_ready = True
                    if task.late:
                        log.info("worker %d is ready again", worker)
            return await process.wait()
        finally:
            await end(watching)

    def _listens(self, worker: int, port: int) -> None:
        if worker not in self._listen:
            self._listen.add(worker)
            if len(self._listen) == self._count:
                self._tell(port)

    async def _look(self, worker: int, folder: Path, process: asyncio.subprocess.Process, begun: asyncio.Event) -> None:
        """Kills a worker whose loop stands still: the kernel would go on giving it connections."""
        within = self._settings.serve.stall_ms_max / 1000 * _STALLS
        await begun.wait()
        while True:
            if await stands_still(folder, worker, within):
                break
            await asyncio.sleep(_LOOK_S)
        log.error("worker %d has not answered for %.1f s and is killed", worker, within)
        process.kill()

    async def _cut(self, worker: int, process: asyncio.subprocess.Process) -> None:
        """Kills a worker that has not ended well after its drain."""
        await self._ending.wait()
        await asyncio.sleep(self._settings.serve.drain_ms / 1000 + _DRAIN_SPARE_S)
        log.error("worker %d does not end and is killed", worker)
        process.kill()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """For another's failure: it ends as if it had been told to."""
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(self._settings.serve.drain_ms / 1000 + _DRAIN_SPARE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@contextlib.contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """A port that is this service's while the block runs, whichever workers listen there; 0: any free one."""
    with bound(host, port) as held:
        yield int(held.getsockname()[1])


def bound(host: str, port: int) -> socket.socket:
    """A socket at a port that others of this service are bound to; who does not listen gets no connections."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise FeedError(f"port {port} of {host} cannot be listened on: {error.strerror}") from error
    return made


def _failure(worker: int, code: int) -> FeedError:
    kinds: dict[int, type[FeedError]] = {2: ConfigError, 3: Unreachable}
    return kinds.get(code, FeedError)(f"worker {worker} ended with {code}; what it said stands above")


# ---- a worker


def given_task() -> tuple[Task, Settings]:
    """What a worker is told on its stdin."""
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=Task)
    return task, load(task.settings).settings


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
    siblings = gateway.siblings = WorkerStats(folder, task.number, task.numbers, roles.metrics)
    listener = bound(settings.serve.host, settings.serve.port)

    async def told(clients: int) -> Report:
        return await report_of(gateway, task.number, clients, listens=server.ready.is_set())

    async with siblings.listening(told):
        working: list[Coroutine[Any, Any, object]] = [
            follower(settings, gateway, lenient=task.late).run(),
            serve(server, listener, first=gateway.health.read if task.late else None),
            _tell(server, gateway),
            _orphaned(server, folder),
        ]
        await together(working)


async def _tell(server: GatewayServer, gateway: Gateway) -> None:
    for event, word in ((server.ready, _LISTENING), (gateway.health.read, _READY)):
        await event.wait()
        sys.stdout.buffer.write(word)
        sys.stdout.flush()
    await asyncio.Event().wait()


async def _orphaned(server: GatewayServer, folder: Path) -> None:
    """Drains when the parent is gone; nobody else will clear away the folder."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    loop.remove_reader(sys.stdin.fileno())
    server.should_exit = True
    shutil.rmtree(folder, ignore_errors=True)
    await asyncio.Event().wait()
