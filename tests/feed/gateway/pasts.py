"""Without a broker: feed logs, a live hub that follows them with a short memory, and clients that ask for the past."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from feed.channels.distributor import Distributor
from feed.channels.hub import Hub, HubSettings
from feed.follow.places import OutOfRange
from feed.gateway.backfill import BackfillService
from feed.gateway.recordings import Recordings
from feed.protocol.session import SessionSettings
from feed.wire.log_reader import LogReader
from feed.wire.record import Record, headers_of
from tests.feed.channels.desk import Link
from tests.feed.recorder.made_up import MadeUp
from tests.reference_client import Client


class Lain:
    """A record as it lies in a log."""

    def __init__(self, record: Record) -> None:
        self.offset = record.offset
        self.timestamp = 0
        self.key = None
        self.value = record.value
        self.headers = headers_of(record)


class MemoryLog:
    """A partition that is a list; `begin`: what was before is deleted. Pages are of a chance's sizes.

    `forgets`: so many records more are deleted after every look, as long as there are some left.
    """

    def __init__(self, records: list[Record], chance: random.Random) -> None:
        self.records = records
        self.begin = 0
        self.forgets = 0
        self.pages = 0
        self._chance = chance

    async def bounds(self) -> tuple[int, int]:
        found = self.begin, len(self.records)
        self._forget()
        return found

    async def page(self, offset: int) -> tuple[Sequence[Any], int]:
        await asyncio.sleep(0)
        self.pages += 1
        if not self.begin <= offset <= len(self.records):
            raise OutOfRange(f"offset {offset}")
        page = self.records[offset : offset + self._chance.randrange(1, 12)]
        self._forget()
        return [Lain(record) for record in page], offset + len(page)

    def _forget(self) -> None:
        self.begin = min(self.begin + self.forgets, max(self.begin, len(self.records) - self.kept))

    kept = 60
    """Records that are never deleted."""


class Stranger:
    """A record that is none of a feed log's."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.timestamp = 0
        self.key = b"who"
        self.value = b"knows"
        self.headers = [("kind", b"data"), ("source", None)]


class StrangeLog(MemoryLog):
    """Between two records lie a stranger's and some that nobody is given (as of transactions); `damaged`: by index."""

    apart = 3

    def __init__(self, records: list[Record], chance: random.Random) -> None:
        super().__init__(records, chance)
        self.damaged: set[int] = set()

    async def bounds(self) -> tuple[int, int]:
        return self.begin * self.apart, len(self.records) * self.apart

    async def page(self, offset: int) -> tuple[Sequence[Any], int]:
        await asyncio.sleep(0)
        stop = min(offset + self._chance.randrange(1, 12), len(self.records) * self.apart)
        return [one for at in range(offset, stop) for one in self._lying(at)], stop

    def _lying(self, offset: int) -> list[Any]:
        index, between = divmod(offset, self.apart)
        if between:
            return [Stranger(offset)] if between == 1 else []
        found = Lain(self.records[index])
        record = replace(self.records[index], offset=offset, floor=self.records[index].floor * self.apart)
        found.offset, found.headers = offset, headers_of(record)
        if index in self.damaged:
            found.value = b"[" + found.value
        return [found]


class SparseLog(StrangeLog):
    """Whole pages hold nothing that anybody is given."""

    apart = 40


class Town:
    """Logs that grow, the gateway over them, and its clients."""

    def __init__(
        self,
        logs: list[MadeUp],
        chance: random.Random,
        recordings: Path | None = None,
        log_type: type[MemoryLog] = MemoryLog,
        **settings: Any,
    ) -> None:
        self.made = logs
        self.hub = Hub(HubSettings(**{"resume_window_ms": 20} | settings))
        self.distributor = Distributor(self.hub)
        self.logs = {log.name: log_type(log.records, chance) for log in logs}
        self.recordings = Recordings(str(recordings)) if recordings is not None else None
        self.backfill = BackfillService(self, self._catch_up, 2, self.recordings)  # type: ignore[arg-type]  # as `FeedLogs`
        self.links: list[Link] = []
        self._due: list[Any] = []
        self._chance = chance
        self._read = {log.name: (LogReader(), 0, "") for log in logs}
        self.now = 1
        self.follow()

    async def log(self, partition: str) -> MemoryLog | None:
        """As of `FeedLogs`."""
        return self.logs.get(partition)

    async def stop(self) -> None:
        """As of `FeedLogs`."""

    async def close(self) -> None:
        """Ends all requests."""
        await self.backfill.stop()
        if self.recordings is not None:
            self.recordings.close()

    def _catch_up(self, owner: object) -> None:
        self._due.append(owner)

    def link(self, client: Client | None = None, settings: SessionSettings | None = None) -> Link:
        """A new client."""
        link = Link(self.distributor, settings or SessionSettings(requests_burst=1000), client, self.backfill)
        link.now = 10**12
        self.links.append(link)
        return link

    def grow(self, steps: int) -> None:
        """So many things happen in each log, and are served."""
        for log in self.made:
            log.grow(steps)
            log.record()
        self.follow()

    def follow(self) -> None:
        """Reads the logs to their ends, and flushes."""
        for log in self.made:
            reader, at, source = self._read[log.name]
            for record in log.records[at:]:
                before = reader.take(record)
                assert before is not None
                if record.kind == "source" or reader.source != source:
                    self.hub.found(reader.source, source)
                    source = reader.source
                if record.kind == "data":
                    self.hub.data(record.source, before, reader.pos, record.value, record.end)
                elif record.kind == "keyframe":
                    self.hub.keyframe(record.source, record.symbol, record.value)
            self._read[log.name] = reader, len(log.records), source
        self.now += 1_000_000
        if self.distributor.flush(self.now):
            for frames, readers in self.distributor.fan_out():
                for one in readers:
                    one.owner.take(frames)  # type: ignore[attr-defined]  # a link

    async def turn(self) -> None:
        """The loop turns: who has something due gets a page."""
        await asyncio.sleep(0 if self.recordings is None else 0.0002)  # threads need time that passes
        due, self._due = self._due, []
        for link in due:
            link.pull(self._chance.choice([1, 500, 100_000]))
        for link in self.links:
            if link.session.due:
                link.pull(self._chance.choice([1, 500, 100_000]))

    async def until(self, holds: Any, grows: bool = False) -> None:
        """Turns until something holds; `grows`: while much happens."""
        for _ in range(20_000):
            if holds():
                return
            if grows and self._chance.random() < 0.2:
                self.grow(self._chance.randrange(3))
            await self.turn()
        raise AssertionError("it does not come to hold")

    async def caught_up(self, link: Link, id_: str, grows: bool = False) -> None:
        """Turns until a client has caught up."""
        await self.until(lambda: id_ in link.client.caught_up, grows)
