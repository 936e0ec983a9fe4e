"""The door to the past: what lies in feed logs, read for walks, a task each.

Owns the tasks, how many walks read at once (the others wait in line), and what is done when Kafka does not answer or
has deleted what was to be read. A page is read only when the walk has sent the one before, so memory does not grow;
and what a page says is worked out in the client's own turns, so that nobody else waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from feed.backfill.past import RECORDS_A_PAGE, LogCut
from feed.errors import BadRequest, FeedError, Unreachable
from feed.follow.floors import KafkaLog
from feed.follow.places import OutOfRange, earliest_of, every_record, place_of
from feed.kafka.cluster import Cluster
from feed.runtime.tasks import end
from feed.wire.log_reader import HoleInLog
from feed.wire.record import records_of

if TYPE_CHECKING:
    from feed.backfill.past import PastLog
    from feed.backfill.recorded import RecordedPart
    from feed.backfill.requests import BackfillRequest
    from feed.follow.places import LogPlace, ReadableLog
    from feed.gateway.backfill_recorded import RecordedSource
    from feed.gateway.recordings import Recordings

_SPARES: Final = (0.0, 0.125, 0.25, 0.5, 0.75)
"""A log that is deleted while it is read is read from further on at each try: so much of it is left alone."""
_RETRY_S: Final = 0.5
_PAUSE_S: Final = 0.02
"""Between looks at logs that were read to their ends, while memory has yet to come there."""
log: Final = logging.getLogger("feed.gateway")


class FeedLogs:
    """The feed logs of some venues on a broker, connected to when first needed. `topics`: by the name of the venue."""

    def __init__(self, bootstrap: str, topics: Mapping[str, str]) -> None:
        self._bootstrap = bootstrap
        self._topics = topics
        self._cluster: Cluster | None = None
        self._lock = asyncio.Lock()

    async def log(self, partition: str) -> ReadableLog | None:
        """The log of `kraken/0`; None where this venue is not read.

        Raises:
            Unreachable: no broker answers.
        """
        venue, _, number = partition.partition("/")
        topic = self._topics.get(venue)
        if topic is None:
            return None
        async with self._lock:
            if self._cluster is None:
                cluster = Cluster(self._bootstrap, client_id="feed-serve-past")
                await cluster.start()
                self._cluster = cluster
        return KafkaLog(self._cluster, TopicPartition(topic, int(number)))

    async def stop(self) -> None:
        """Closes the connections."""
        if self._cluster is not None:
            await self._cluster.stop()


class BackfillService:
    """Reads for walks. `catch_up`: called with a walk's owner after everything that it is told."""

    def __init__(
        self,
        logs: FeedLogs,
        catch_up: Callable[[object], None],
        walks_max: int,
        recordings: Recordings | None = None,
    ) -> None:
        """`recordings`: where the past is looked for that the feed logs do not hold any more."""
        self._logs = logs
        self._recordings = recordings
        self._catch_up = catch_up
        self._looking = asyncio.Semaphore(walks_max)
        self._reeling = asyncio.Semaphore(walks_max)
        self._walking = asyncio.Semaphore(walks_max)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def walks(self) -> int:
        """How many there are, those that wait in line among them."""
        return len(self._tasks)

    def start(self, walk: BackfillRequest) -> None:
        """Begins with a walk."""
        room = asyncio.Event()
        walk.more = room.set
        task = asyncio.create_task(self._run(walk, room), name="walk")
        walk.end = task.cancel  # type: ignore[assignment]  # whether it ran is nothing to the walk
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Ends all walks."""
        await end(list(self._tasks))
        await self._logs.stop()

    async def _run(self, walk: BackfillRequest, room: asyncio.Event) -> None:
        reel: RecordedSource | None = None
        reads = False
        try:
            async with self._looking:
                found = await self._find(walk)
            lacking = {one.partition: one.cut for one in found if one.place.broken}
            if self._recordings is not None and lacking:
                # it holds files open until it is sent: as many as may walk do so, those in line hold none
                reads = await self._reeling.acquire()
            async with self._looking:
                if self._recordings is not None and reads:
                    reel = await self._wind(walk, found, lacking, self._recordings)
                logs = {await _bring(walk, one): one.log for one in found}
            if reads and reel is None:
                self._reeling.release()
                reads = False
            walk.stands = True
            self._catch_up(walk.owner)
            async with self._walking:
                await _Reading(walk, logs, reel, room, self._catch_up).run()
        except (KafkaError, FeedError, OSError) as error:
            log.warning("the past cannot be read: %s", error)
            self._fail(walk, error, BadRequest("source_unavailable", "the feed log cannot be read now"))
        except Exception as error:
            # nobody waits for this task: its client would wait for an answer for ever
            log.exception("a walk failed")
            self._fail(walk, error, BadRequest("internal", "the past cannot be read"))
        finally:
            if reel is not None:
                reel.close()
            if reads:
                self._reeling.release()

    def _fail(self, walk: BackfillRequest, error: Exception, refused: BadRequest) -> None:
        walk.failed, walk.refused = error, refused
        self._catch_up(walk.owner)

    async def _find(self, walk: BackfillRequest) -> list[_Cut]:
        """Where each partition is to be read."""
        found: list[_Cut] = []
        for partition, cut in walk.cuts.items():
            one = await self._logs.log(partition)
            if one is not None:
                found.append(_Cut(partition, one, cut, await place_of(one, cut)))
        return found

    async def _wind(
        self, walk: BackfillRequest, found: list[_Cut], lacking: dict[str, LogCut], recordings: Recordings
    ) -> RecordedSource | None:
        """Looks for recordings of what the logs do not hold any more; the logs then go on where those end."""
        from feed.gateway.backfill_recorded import RecordedSource  # it brings pyarrow

        reel = RecordedSource(recordings, walk.ask.channels, walk.ask.symbols, lacking)
        try:
            there = await _opened(reel)
            ends = reel.ends if there else {}
            cuts = {name: LogCut(source=end_.source, mark=end_.tick) for name, end_ in ends.items()}
            places = {
                one.partition: await place_of(one.log, cuts[one.partition]) for one in found if one.partition in cuts
            }
        except BaseException:
            reel.close()  # also what a thread opens only now: nobody waits for it any more
            raise
        if not there:
            reel.close()
            return None
        walk.tape = reel.tape
        for one in found:
            if one.partition in cuts:
                one.cut, one.place = cuts[one.partition], places[one.partition]
        return reel


async def _opened(reel: RecordedSource) -> bool:
    """Whether recordings have anything for a walk; what cannot be read has nothing."""
    try:
        return await reel.open()
    except FeedError as error:
        log.warning("recordings cannot be read: %s", error)
        return False


class _Cut:
    """A partition of a walk: where it is cut, and where that lies."""

    def __init__(self, partition: str, log_: ReadableLog, cut: LogCut, place: LogPlace) -> None:
        self.partition = partition
        self.log = log_
        self.cut = cut
        self.place = place


async def _bring(walk: BackfillRequest, one: _Cut) -> PastLog:
    """Reads one partition up to its cut."""
    place, cut = one.place, one.cut
    past_log = walk.past.log(place.start)
    for spare in _SPARES:
        try:
            _, stop = await one.log.bounds()
            await _read(past_log, one.log, place, stop, cut)
            break
        except HoleInLog as hole:
            place = place._replace(start=hole.floor)
        except OutOfRange:
            place = await place_of(one.log, cut, spare=spare)
        past_log = walk.past.restart(past_log, place.start)
    if place.broken and cut.time is not None:
        walk.late[past_log.reader.source] = "evicted"
    return past_log


async def _read(past_log: PastLog, found: ReadableLog, place: LogPlace, stop: int, cut: LogCut) -> None:
    count = 0
    async for record in every_record(found, place.start, stop):
        last = place.broken and record.offset >= place.known
        known = record.offset > place.known and not place.broken
        if past_log.take(record, cut if known else None) or last:
            return
        count += 1
        if count % RECORDS_A_PAGE == 0:
            await asyncio.sleep(0)


class _Reading:
    """A walk that stands: gives it pages as it asks for them, of the partition that is furthest behind."""

    def __init__(
        self,
        walk: BackfillRequest,
        logs: dict[PastLog, ReadableLog],
        reel: RecordedSource | None,
        room: asyncio.Event,
        catch_up: Callable[[object], None],
    ) -> None:
        self._walk = walk
        self._reel = reel
        self._logs = logs
        self._room = room
        self._catch_up = catch_up
        self._next = {past_log: past_log.next for past_log in logs}
        self._ended: set[PastLog] = set()
        self._goals: dict[PastLog, int] = {}
        """Where each log ended when this look at all of them began: a busy one is never found at its end."""
        self._waits = False
        self._overtaken = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        walk = self._walk
        while True:
            await self._room.wait()
            self._room.clear()
            if walk.tape is not None and not walk.tape.over:
                await self._play(walk.tape)
                self._catch_up(walk.owner)
                continue
            try:
                await self._mend()
                await self._give()
            except (KafkaError, OSError, Unreachable) as error:
                log.warning("a walk waits: %s", error)
                await asyncio.sleep(_RETRY_S)
                self._room.set()
            else:
                self._catch_up(walk.owner)

    async def _play(self, tape: RecordedPart) -> None:
        """The next piece of what was recorded."""
        assert self._reel is not None
        try:
            said = await self._reel.next()
        except FeedError as error:
            log.warning("a recording breaks off: %s", error)
            tape.broke_off, said = True, None
        if said is None:
            tape.over = True
        else:
            tape.give(said)

    async def _give(self) -> None:
        """The next page; or says that there is none for now."""
        if self._waits:
            await asyncio.sleep(_PAUSE_S)
            self._waits = False
        while True:
            open_ = [past_log for past_log in self._logs if past_log not in self._ended]
            if not open_:
                break
            past_log = min(open_, key=lambda one: one.clock)
            try:
                if past_log not in self._goals:
                    self._goals[past_log] = (await self._logs[past_log].bounds())[1]
                if self._next[past_log] >= self._goals[past_log]:
                    self._ended.add(past_log)
                    continue
                before = self._next[past_log]
                raws, self._next[past_log] = await self._logs[past_log].page(before)
            except OutOfRange as error:
                log.warning("a walk was overtaken: %s", error)
                await self._start_anew(past_log)
                continue
            if found := list(records_of(raws)):
                self._walk.past.give(past_log, found)
                return
            if self._next[past_log] == before:
                self._ended.add(past_log)
        if not self._walk.past.due:
            self._ended.clear()
            self._goals.clear()
            self._walk.at_end = self._waits = True

    async def _mend(self) -> None:
        """Reads again where records were missing."""
        holes, self._walk.past.holes = self._walk.past.holes, []
        for past_log, hole in holes:
            self._ended.discard(past_log)
            if hole.floor < past_log.start:
                # from the same position on: copies are passed over
                self._next[past_log] = hole.floor
            else:
                self._change(past_log, self._walk.past.restart(past_log, hole.floor), hole.floor)

    async def _start_anew(self, past_log: PastLog) -> None:
        """What was to be read is deleted: goes on where the log can be read from."""
        self._overtaken = min(self._overtaken + 1, len(_SPARES))
        place = await earliest_of(self._logs[past_log], spare=_SPARES[self._overtaken - 1])
        self._change(past_log, self._walk.past.restart(past_log, place.start), place.start)

    def _change(self, old: PastLog, new: PastLog, start: int) -> None:
        self._logs[new] = self._logs.pop(old)
        self._goals.pop(old, None)
        del self._next[old]
        self._next[new] = start
