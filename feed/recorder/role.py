"""The recorder: follows feed logs into a hub of its own, and writes what changed.

Owns the cycle: records come in, a flush makes them rows, a commit makes the rows batches, of all tables at once.
Whatever fails on the disk ends in the same way: all that is in memory is given up, recording pauses until the disk
takes something again, and goes on from what the files say. Kafka holds the rest.

One task does all of it. While files are written, in a thread, no more records are taken: what is in memory is bounded.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from typing import TYPE_CHECKING, Final

from feed.errors import ConfigError
from feed.follow.floors import EARLIEST
from feed.follow.follower import Followed, Follower
from feed.recorder.commits import Commits
from feed.recorder.lock import FolderLock
from feed.recorder.recovery import seal_ended, take_up
from feed.recorder.retention import keep
from feed.recorder.session import RecorderSession
from feed.recording.disk import Disk
from feed.recording.tables import GAPS, STATES
from feed.runtime.tasks import unbroken
from feed.runtime.throttle import ThrottledLog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pyarrow as pa
    from aiokafka.structs import TopicPartition

    from feed.backfill.past import LogCut
    from feed.channels.state import FoldRules
    from feed.kafka.access import Entrance
    from feed.recorder.health import RecorderHealth
    from feed.recording.filter import Filter
    from feed.runtime.settings import RecordSettings

_NEVER_SILENT_S: Final = 1e9
NOT_OUR_DISK: Final = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT})
log: Final = logging.getLogger("feed.recorder")


class DiskFull(OSError):
    """Less is free than must stay free."""

    def __init__(self, free: int, floor: int) -> None:
        super().__init__(errno.ENOSPC, f"{free >> 20} MiB free, of which {floor >> 20} must stay free")


def refuse_full(disk: Disk, floor: int, health: RecorderHealth) -> None:
    """Sees to it that so many bytes are free, and tells `health` how many there are beyond them.

    Raises:
        DiskFull: they are not.
        OSError: the folder is not there.
    """
    free = disk.free_bytes()
    health.room_bytes = free - floor
    if free < floor:
        raise DiskFull(free, floor)


class Pauses:
    """Says when recording pauses, now and then while it does, and when it goes on: with the first batch written."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told = ThrottledLog(log)
        self._since: float | None = None

    def pause(self, error: OSError) -> None:
        """The disk took something not."""
        if self._since is None:
            self._since = time.monotonic()
        words = f"{self._what} pauses: {error}; Kafka holds what comes"
        self._told.say(error.errno, words, level=logging.ERROR)

    def go_on(self) -> None:
        """It took something."""
        if self._since is not None:
            log.warning("%s goes on after %.1f s", self._what, time.monotonic() - self._since)
            self._since = None


class Recorder:
    """Records some venues' feed logs into a folder, until it is cancelled."""

    def __init__(
        self,
        broker: Entrance | str,
        topics: Mapping[str, str],
        root: Path,
        *,
        chosen: Filter,
        rules: FoldRules,
        settings: RecordSettings,
        health: RecorderHealth,
        fetch_wait_ms: int,
        disk: Disk | None = None,
        named: bool = True,
        begins: LogCut | None = EARLIEST,
        must_be_new: bool = False,
    ) -> None:
        """`topics`: each feed topic and its venue. `named`: somebody asked for them; else what is there counts.

        `begins`: where a new recording does (None: where the logs end); `must_be_new`: it was asked for by name.
        """
        self._begins = begins
        self._must_be_new = must_be_new
        self._named = named
        self._broker = broker
        self._topics = topics
        self._root = root
        self._chosen = chosen
        self._rules = rules
        self._settings = settings
        self._health = health
        self._fetch_wait_ms = fetch_wait_ms
        self._disk = disk or Disk(root)
        self._pauses = Pauses("recording")
        self.locked = asyncio.Event()
        """Set once the folder is ours."""

    async def run(self) -> None:
        """Records, pauses and goes on.

        Raises:
            Unreachable: no broker answered at the start.
            FeedError: somebody else records into this folder.
            ConfigError: it is to be new, and is not.
            CorruptRecording: an open file is damaged before its end.
        """
        lock = FolderLock(self._root)
        try:
            while True:
                try:
                    lock.take()
                    self.locked.set()
                    await self._record()
                except OSError as error:
                    if error.errno in NOT_OUR_DISK:
                        raise
                    self._health.paused(error.strerror or str(error))
                    self._pauses.pause(error)
                await asyncio.sleep(self._settings.retry_ms / 1000)
        finally:
            lock.release()

    async def _record(self) -> None:
        """One life, from what the files say to the first failure of the disk."""
        refuse_full(self._disk, self._settings.free_bytes_min, self._health)
        taken_up = await unbroken(asyncio.to_thread(take_up, self._root, self._disk, self._chosen.kinds))
        if self._must_be_new and taken_up.positions:
            raise ConfigError(f"{self._root} has a recording, which goes on where it ends: --from is for a new one")
        self._must_be_new = False
        session = RecorderSession(taken_up, self._chosen, self._rules, begins=self._begins)
        tables = (*self._chosen.kinds, GAPS, STATES)
        commits = Commits(self._disk, tables, taken_up.commit, self._rules, self._settings)
        life = _Life(self._disk, self._root, session, commits, self._settings, self._health, self._pauses)
        life.follower = follower = Follower(
            self._broker,
            {topic: Followed(_NEVER_SILENT_S, self._named, venue) for topic, venue in self._topics.items()},
            sink=session,
            watcher=self._health,
            notify=lambda: None,
            resume_window_s=0,
            fetch_wait_ms=self._fetch_wait_ms,
            client_id="feed-record",
            starts=lambda partition, begin, stop: session.starts(self._name(partition), begin, stop),
            passed=session.passed,
            between=life.between,
        )
        self._health.follows(lambda: follower.standings)
        self._health.goes_on()
        try:
            await follower.run()
        except asyncio.CancelledError:
            life.finish()
            raise
        finally:
            await life.close()

    def _name(self, partition: TopicPartition) -> str:
        return f"{self._topics[partition.topic]}/{partition.partition}"


class _Life:
    """From what the files say to the first failure: when things are flushed, written, synced, ended and sealed."""

    follower: Follower

    def __init__(
        self,
        disk: Disk,
        root: Path,
        session: RecorderSession,
        commits: Commits,
        settings: RecordSettings,
        health: RecorderHealth,
        pauses: Pauses,
    ) -> None:
        self._disk = disk
        self._pauses = pauses
        self._keeping = asyncio.Lock()
        self._root = root
        self._session = session
        self._commits = commits
        self._settings = settings
        self._health = health
        self._sealing: set[asyncio.Task[None]] = set()
        self._flushed_at = self._written_at = self._synced_at = time.monotonic()
        self._ticks: dict[str, int] = {}
        self._newest_clock = 0
        self._broken = False
        """A write failed: what is in memory is given up."""

    async def between(self) -> None:
        """Before more records are taken: writes what is due, to the end also when it is cancelled meanwhile."""
        await unbroken(self._write_due())

    async def _write_due(self) -> None:
        try:
            await self._cycle()
        except BaseException:
            self._broken = True
            raise

    async def _cycle(self) -> None:
        for task in [task for task in self._sealing if task.done()]:
            self._sealing.discard(task)
            task.result()
        now = time.monotonic()
        settings = self._settings
        if self._session.weight < settings.flush_bytes and now - self._flushed_at < settings.flush_interval_ms / 1000:
            return
        self._flushed_at = now
        if not self._gather(now):
            return
        await asyncio.to_thread(self._write)
        for table, batches, sources in self._rounds():
            await asyncio.to_thread(self._commits.write_round, table, batches, sources)
        if now - self._synced_at >= settings.sync_interval_ms / 1000:
            await asyncio.to_thread(self._commits.sync)
            self._synced_at = now
            self._health.durable()
        await self._rotate()

    def finish(self) -> None:
        """Writes and seals everything; blocks. After a write that failed the next recorder does that."""
        if self._broken:
            log.error("the last write failed; the next recorder goes on from what was written")
            return
        try:
            if self._gather(float("inf")):
                self._write()
                for table, batches, sources in self._rounds():
                    self._commits.write_round(table, batches, sources)
            for path in self._commits.end_all():
                seal_ended(self._root, self._disk, path)
        except OSError as error:
            log.error("not all could be written at the end: %s; the next recorder goes on from what was", error)

    async def close(self) -> None:
        """Waits for what is being sealed, and closes all files."""
        found = await unbroken(_ended(self._sealing))
        for error in found:
            log.error("not all could be sealed at the end: %s; the next recorder does it", error)
        self._commits.close()

    def _gather(self, now: float) -> bool:
        """Takes the rows that are due; whether there is anything to write."""
        self._taken, self._spans = self._session.take(self.follower.positions)
        ticks = {source: span.tick for source, span in self._spans.items()}
        # where only the log's end has moved, that is worth a batch now and then
        idle = not self._taken and ticks == self._ticks
        newest = max((span.clock for span in self._spans.values()), default=0)
        if not ticks or (idle and now - self._written_at < self._settings.sync_interval_ms / 1000):
            return False
        self._commits.received_ns = self._session.received_ns
        self._ticks, self._written_at = ticks, now
        self._newest_clock = newest
        return True

    def _write(self) -> None:
        refuse_full(self._disk, self._settings.free_bytes_min, self._health)
        self._commits.write(self._taken, self._spans)
        self._pauses.go_on()
        self._health.commits += 1
        self._health.ticks = self._ticks
        self._health.rows += sum(rows.batch.num_rows for rows in self._taken.values())

    def _rounds(self) -> list[tuple[str, list[pa.RecordBatch], list[str]]]:
        """Keyframes that are due: of sources that have none in the open files, and of tables that have written much."""
        fresh, self._session.fresh = self._session.fresh, set()
        due = self._commits.due()
        rounds = [(table, *self._session.keyframes(table)) for table in due]
        if fresh:
            rounds += [(t, *self._session.keyframes(t, fresh)) for t in self._commits.tables if t not in due]
        return rounds

    async def _rotate(self) -> None:
        full = self._commits.full()
        if not full:
            return
        await asyncio.to_thread(self._commits.sync)
        for table in full:
            path = self._commits.end(table)
            batches, sources = self._session.keyframes(table)
            await asyncio.to_thread(self._commits.write_round, table, batches, sources)
            if path is not None:
                self._sealing.add(asyncio.create_task(self._seal(path), name=f"seal {path}"))

    async def _seal(self, path: str) -> None:
        await asyncio.to_thread(seal_ended, self._root, self._disk, path)
        self._health.sealed_files += 1
        async with self._keeping:  # tables that rotate together would delete the same files
            gone = await asyncio.to_thread(keep, self._root, self._disk, self._settings, self._newest_clock)
        self._health.deleted_files += len(gone)


async def _ended(tasks: set[asyncio.Task[None]]) -> list[BaseException]:
    """Waits for tasks; what went wrong in them."""
    found = await asyncio.gather(*tasks, return_exceptions=True)
    return [error for error in found if error is not None]
