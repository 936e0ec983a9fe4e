"""Workers that are one gateway to the outside: each is told by the others how they stand.

Owns the folder in which workers of one parent find each other: a socket for each that answers with its report, and a
file for each with what it has counted. Any worker that is asked over HTTP asks the others, so whoever the kernel gives
the connection to tells the same. Leaves starting and watching workers to their parent.

Counters of a worker that died must not go missing: Prometheus would take the sum, smaller than before, for a restart,
and add all of it once more. So a worker writes its file before it tells anybody, and once a second: what was told once
is in a file whatever happens, but for a full disk, which is no reason to end. The parent adds the files of the dead up
into one (`retire`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from feed.gateway.flow import Flow
from feed.runtime.checks import Check
from feed.runtime.metrics import Family, Metrics, merged_families

LABEL: Final = "worker"
PARENT: Final = 0
"""The number of the parent, where it has something to tell itself."""
_ANSWER_SECONDS: Final = 1.0
_KEEP_SECONDS: Final = 1.0
_WHETHER: Final = b"?\n"
_HERE: Final = b"!"
_RETIRED: Final = "retired"
_STATE: Final = ".state"
_logger = logging.getLogger("feed.gateway")


class Report(Struct, frozen=True, kw_only=True):
    """How a worker stands."""

    worker: int
    pid: int
    ready: bool
    listens: bool = True
    """Whether clients come to it; not yet where it was started again and still reads the logs."""
    found: str
    """What is not well."""
    uptime_s: int
    families: list[Family]
    connections: int
    clients: list[dict[str, Any]] = []
    """Those that stand worst, as `/v1/clients` shows them."""
    flow: Flow = Flow()
    """Which sources are at fault for it, of all venues."""


class _Retired(Struct):
    """What the dead have counted, and whose files are in it."""

    names: list[str]
    families: list[Family]


class WorkerStats:
    """The workers of one parent, as worker `number` of all `numbers` sees them."""

    def __init__(self, folder: Path, number: int, numbers: Sequence[int], metrics: Metrics) -> None:
        self.number = number
        self.numbers = tuple(numbers)
        self._folder = folder
        self._metrics = metrics
        self._name = f"{number}-{os.getpid()}{_STATE}"
        self._told: Callable[[int], Awaitable[Report]] | None = None
        self._keeps = True

    @contextlib.asynccontextmanager
    async def listening(self, told: Callable[[int], Awaitable[Report]]) -> AsyncIterator[None]:
        """Answers the others with `told(clients)` as long as the block runs, and keeps what was counted."""
        self._told = told
        path = _socket(self._folder, self.number)
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._answer, path)
        keeping = asyncio.create_task(self._keep_on(), name="keep-counts")
        try:
            yield
        finally:
            keeping.cancel()
            server.close()
            self.keep()

    async def ask(self, clients: int = 0) -> dict[int, Report | Exception]:
        """What each says of itself, in order of their numbers, with so many of its clients; or why it says nothing."""
        others = [number for number in self.numbers if number != self.number]
        asking = [self._ask(number, clients) for number in others]
        own, *answers = await asyncio.gather(self._report(clients), *asking)
        return dict(sorted([(self.number, own), *zip(others, answers, strict=True)]))

    async def reports(self, clients: int = 0) -> list[Report]:
        """The reports of all that answer in time."""
        return [found for found in (await self.ask(clients)).values() if isinstance(found, Report)]

    def checks_of(self, found: dict[int, Report | Exception]) -> list[Check]:
        """What has to be so of every other worker to which the kernel gives connections.

        One that has died, or reads the logs after that, gets none: those that are there serve all clients meanwhile.
        """
        return [_check(number, one) for number, one in found.items() if number != self.number]

    async def families(self) -> list[Family]:
        """The numbers of all, those of the dead included."""
        reports = await self.reports()
        live = {f"{report.worker}-{report.pid}{_STATE}" for report in reports}
        # files first: what is retired meanwhile is then in both, and is left out of one
        files = {path.name: _families_in(path) for path in self._folder.glob(f"*{_STATE}") if path.name not in live}
        retired = _retired(self._folder)
        ended = [families for name, families in files.items() if name not in retired.names]
        return merged_families({str(one.worker): one.families for one in reports}, [*ended, retired.families], LABEL)

    def keep(self, counted: list[Family] | None = None) -> None:
        """Writes what was counted so far. Where that cannot be (a full disk), a worker that dies takes it along."""
        try:
            _write(self._folder / self._name, self._metrics.counted_families() if counted is None else counted)
        except OSError as error:
            if self._keeps:
                _logger.warning("what was counted cannot be kept: %s", error)
            self._keeps = False
        else:
            self._keeps = True

    async def _report(self, clients: int) -> Report:
        assert self._told is not None
        report = await self._told(clients)
        self.keep([family for family in report.families if family.adds_up])
        return report

    async def _keep_on(self) -> None:
        while True:
            self.keep()
            await asyncio.sleep(_KEEP_SECONDS)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):
            asked = await reader.readline()
            writer.write(_HERE if asked == _WHETHER else msgspec.msgpack.encode(await self._report(int(asked))))
            await writer.drain()
        writer.close()

    async def _ask(self, number: int, clients: int) -> Report | Exception:
        try:
            answer = await _asked(_socket(self._folder, number), b"%d\n" % clients, _ANSWER_SECONDS)
            return msgspec.msgpack.decode(answer, type=Report)
        except (OSError, msgspec.DecodeError) as error:
            _logger.debug("worker %d does not answer: %r", number, error)
            return error


def _check(number: int, found: Report | Exception) -> Check:
    name = f"worker_{number}" if number != PARENT else "parent"
    if isinstance(found, Report):
        if found.listens:
            return Check(name, found.ready, found.found or "ready")
        return Check(name, True, f"not yet there, the others serve its clients: {found.found or 'ready'}")
    if number != PARENT and isinstance(found, (FileNotFoundError, ConnectionError)):
        return Check(name, True, "not there, the others serve its clients")
    return Check(name, False, "does not answer")


async def stands_still(folder: Path, number: int, seconds: float) -> bool:
    """Whether a worker is there and says nothing for so long; one that is not there, or not yet, does not."""
    try:
        await _asked(_socket(folder, number), _WHETHER, seconds)
    except TimeoutError:
        return True
    except OSError:
        pass
    return False


def retire(folder: Path, number: int, pid: int) -> None:
    """A worker is dead: adds what it has counted to that of all the dead. For one process, the parent."""
    path = folder / f"{number}-{pid}{_STATE}"
    retired = _retired(folder)
    families = merged_families({}, [retired.families, _families_in(path)], LABEL)
    try:
        _write(folder / _RETIRED, _Retired([*retired.names, path.name], families))
        path.unlink(missing_ok=True)
    except OSError as error:
        # its file stays, and is counted as it lies there
        _logger.warning("what worker %d has counted cannot be added to that of the dead: %s", number, error)


async def _asked(path: Path, line: bytes, seconds: float) -> bytes:
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            writer.write(line)
            return await reader.read(-1)
        finally:
            writer.close()


def _socket(folder: Path, number: int) -> Path:
    return folder / f"{number}.socket"


def _retired(folder: Path) -> _Retired:
    try:
        return msgspec.msgpack.decode((folder / _RETIRED).read_bytes(), type=_Retired)
    except FileNotFoundError:
        return _Retired([], [])


def _families_in(path: Path) -> list[Family]:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=list[Family])
    except FileNotFoundError:
        return []


def _write(path: Path, what: object) -> None:
    """All of it or nothing."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(msgspec.msgpack.encode(what))
    beside.replace(path)
