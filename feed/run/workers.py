"""A gateway of several processes at one port: the parent that starts and watches the workers.

Owns when a worker is started again or killed, and that their numbers outlive them. The kernel shares connections out
among workers (`SO_REUSEPORT`). Leaves to `child` how one is started, told and ended, to `worker` what it does, and to
`feed.gateway.worker_stats` how workers tell of each other.

A worker that is started again listens only when it has read the logs: until then the others get its share of the
clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

from feed.errors import ConfigError, FeedError, Unreachable
from feed.gateway.worker_stats import PARENT, Report, WorkerStats, retire, stands_still
from feed.run.child import end_child, started
from feed.run.ports import refuse_used_port, reserved
from feed.run.worker import LISTENING, READY, Task
from feed.runtime.checks import Check, failing, in_one_line, is_ready
from feed.runtime.metrics import Metrics, prometheus_text
from feed.runtime.settings import Settings, given
from feed.runtime.tasks import end, ending_signals, first_cause

_AGAIN_S: Final = 0.5
_AGAIN_MAX_S: Final = 10.0
_LONG_S: Final = 30.0
"""Who lived that long is started again at once: what ended it has nothing to do with its start."""
_DRAIN_SPARE_S: Final = 10.0
_LOOK_S: Final = 1.0
_STALLS: Final = 3
"""A worker that stands still for so many times what is called not alive is killed."""
log: Final = logging.getLogger("feed.workers")


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
        self._stats: WorkerStats | None = None
        self._count = settings.serve.workers
        self._drain_s = settings.serve.drain_ms / 1000 + _DRAIN_SPARE_S
        self._numbers = [PARENT, *range(1, self._count + 1)]
        self._began_at = time.monotonic()
        self._running: dict[int, Process] = {}
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
            handled = ending_signals()
            for number in handled:
                loop.add_signal_handler(number, self._pass_on)
            try:
                async with self._telling(Path(folder)), asyncio.TaskGroup() as tasks:
                    for worker in range(1, self._count + 1):
                        tasks.create_task(self._keep(worker, port, Path(folder)), name=f"worker-{worker}")
            except BaseExceptionGroup as group:
                raise first_cause(group) from group
            finally:
                for number in handled:
                    loop.remove_signal_handler(number)

    @contextlib.asynccontextmanager
    async def _telling(self, folder: Path) -> AsyncIterator[None]:
        stats = WorkerStats(folder, PARENT, self._numbers, self._metrics)
        async with stats.listening(self._report):
            self._stats = stats
            yield

    async def all_checks(self) -> list[Check]:
        """What has to be so of all of them."""
        if self._stats is None:
            return [Check("workers", False, "not started yet")]
        own = [checked() for checked in self._checks]
        return [*own, *self._stats.checks_of(await self._stats.ask())]

    async def export(self) -> bytes:
        """The numbers of all of them."""
        return self._metrics.export() if self._stats is None else prometheus_text(await self._stats.families())

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
        settings = {**given(self._settings), "serve.port": port}
        task = Task(settings=settings, folder=str(folder), number=worker, numbers=self._numbers, late=late)
        async with started("serve", task, end_s=self._drain_s) as process:
            self._running[worker] = process
            try:
                return await self._watch(port, process, task)
            finally:
                del self._running[worker]
                await end_child(process, self._drain_s)  # what it has counted is whole only then
                retire(folder, worker, process.pid)

    async def _watch(self, port: int, process: Process, task: Task) -> int:
        worker = task.number
        assert process.stdout is not None
        if self._ending.is_set():
            process.terminate()
        begun = asyncio.Event()
        watching = [
            asyncio.create_task(self._cut(worker, process), name=f"cut-{worker}"),
            asyncio.create_task(self._look(worker, Path(task.folder), process, begun), name=f"look-{worker}"),
        ]
        try:
            async for line in process.stdout:
                begun.set()
                told = line.rstrip()
                if told == LISTENING:
                    self._listens(worker, port)
                if told == READY:
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

    async def _look(self, worker: int, folder: Path, process: Process, begun: asyncio.Event) -> None:
        """Kills a worker whose loop stands still: the kernel would go on giving it connections."""
        within = self._settings.serve.stall_ms_max / 1000 * _STALLS
        await begun.wait()
        while True:
            if await stands_still(folder, worker, within):
                break
            await asyncio.sleep(_LOOK_S)
        log.error("worker %d has not answered for %.1f s and is killed", worker, within)
        process.kill()

    async def _cut(self, worker: int, process: Process) -> None:
        """Kills a worker that has not ended well after its drain."""
        await self._ending.wait()
        await asyncio.sleep(self._drain_s)
        log.error("worker %d does not end and is killed", worker)
        process.kill()


def _failure(worker: int, code: int) -> FeedError:
    kinds: dict[int, type[FeedError]] = {2: ConfigError, 3: Unreachable}
    return kinds.get(code, FeedError)(f"worker {worker} ended with {code}; what it said stands above")
