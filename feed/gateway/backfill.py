"""Feed logs and recordings read for requests that begin in the past, a task for each.

Owns the tasks, how many requests are read for at once (the others wait in line), and what is done when Kafka does not
answer or has deleted what was to be read. A page is read only when the request has sent the one before, so memory does
not grow; and what a page says is worked out in the client's own turns, so that nobody else waits for it. The stages of
a request, and which of its methods this calls when, are a table in `feed.backfill.request`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from feed.backfill.past import RECORDS_A_PAGE, LogCut
from feed.errors import BadRequest, FeedError, Unreachable
from feed.follow.floors import KafkaLog
from feed.follow.places import OutOfRange, earliest_of, every_record, place_of
from feed.kafka.access import Entrance
from feed.kafka.cluster import Cluster
from feed.runtime.tasks import end
from feed.wire.log_reader import HoleInLog
from feed.wire.record import records_of

if TYPE_CHECKING:
    from feed.backfill.past import PastLog
    from feed.backfill.request import BackfillRequest
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

    def __init__(self, broker: Entrance | str, topics: Mapping[str, str]) -> None:
        self._broker = broker
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
                cluster = Cluster(self._broker, client_id="feed-serve-past")
                await cluster.start()
                self._cluster = cluster
        return KafkaLog(self._cluster, TopicPartition(topic, int(number)))

    async def stop(self) -> None:
        """Closes the connections."""
        if self._cluster is not None:
            await self._cluster.stop()


class BackfillService:
    """Reads for requests. `catch_up`: has the `pull` of a request's owner called, after everything that it is told."""

    def __init__(
        self,
        logs: FeedLogs,
        catch_up: Callable[[object], None],
        walks_max: int,
        recordings: Recordings | None = None,
    ) -> None:
        """`walks_max`: so many requests are read for at once. `recordings`: where is looked for what logs have lost."""
        self._logs = logs
        self._recordings = recordings
        self._catch_up = catch_up
        self._finding = asyncio.Semaphore(walks_max)
        self._holding_files = asyncio.Semaphore(walks_max)
        self._reading = asyncio.Semaphore(walks_max)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def requests(self) -> int:
        """How many requests are read for, those that wait in line among them."""
        return len(self._tasks)

    def start(self, request: BackfillRequest) -> None:
        """Begins with a request."""
        room = asyncio.Event()
        task = asyncio.create_task(self._run(request, room), name="backfill")
        request.read_by(room.set, task.cancel)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Ends all of them."""
        await end(list(self._tasks))
        await self._logs.stop()

    async def _run(self, request: BackfillRequest, room: asyncio.Event) -> None:
        recorded: RecordedSource | None = None
        holds_files = False
        try:
            async with self._finding:
                found = await self._find(request)
            lacking = {one.partition: one.cut for one in found if one.place.broken}
            if self._recordings is not None and lacking:
                # it holds files open until it is sent: as many as may be read for do so, those in line hold none
                holds_files = await self._holding_files.acquire()
            async with self._finding:
                if self._recordings is not None and holds_files:
                    recorded, found = await _find_recorded(request, found, lacking, self._recordings)
                logs = {await _read_to_cut(request, one): one.log for one in found}
            if holds_files and recorded is None:
                self._holding_files.release()
                holds_files = False
            request.ready(None if recorded is None else recorded.part)
            self._catch_up(request.owner)
            async with self._reading:
                await _Reading(request, logs, recorded, room, self._catch_up).run()
        except (KafkaError, FeedError, OSError) as error:
            log.warning("the past cannot be read: %s", error)
            self._fail(request, error, BadRequest("source_unavailable", "the feed log cannot be read now"))
        except Exception as error:
            # nobody waits for this task: its client would wait for an answer for ever
            log.exception("reading the past failed")
            self._fail(request, error, BadRequest("internal", "the past cannot be read"))
        finally:
            if recorded is not None:
                recorded.close()
            if holds_files:
                self._holding_files.release()

    def _fail(self, request: BackfillRequest, error: Exception, refusal: BadRequest) -> None:
        request.fail(error, refusal)
        self._catch_up(request.owner)

    async def _find(self, request: BackfillRequest) -> list[_CutLog]:
        """Where each log is to be read."""
        found: list[_CutLog] = []
        for partition, cut in request.cuts.items():
            one = await self._logs.log(partition)
            if one is not None:
                found.append(_CutLog(partition, one, cut, await place_of(one, cut)))
        return found


class _CutLog(NamedTuple):
    """A partition of a request: its log, where that is cut, and from where it is read for that."""

    partition: str
    log: ReadableLog
    cut: LogCut
    place: LogPlace


async def _find_recorded(
    request: BackfillRequest, found: list[_CutLog], lacking: dict[str, LogCut], recordings: Recordings
) -> tuple[RecordedSource | None, list[_CutLog]]:
    """Looks for recordings of what the logs do not hold any more; the logs are then cut where those end."""
    from feed.gateway.backfill_recorded import RecordedSource  # it brings pyarrow

    recorded = RecordedSource(recordings, request.ask.channels, request.ask.symbols, lacking)
    try:
        if not await _has_any(recorded):
            recorded.close()
            return None, found
        cuts = {name: LogCut(source=end_.source, mark=end_.tick) for name, end_ in recorded.ends.items()}
        return recorded, [
            one._replace(cut=cuts[one.partition], place=await place_of(one.log, cuts[one.partition]))
            if one.partition in cuts
            else one
            for one in found
        ]
    except BaseException:
        recorded.close()  # also what a thread opens only now: nobody waits for it any more
        raise


async def _has_any(recorded: RecordedSource) -> bool:
    """Whether recordings have anything for a request; what cannot be read has nothing."""
    try:
        return await recorded.open()
    except FeedError as error:
        log.warning("recordings cannot be read: %s", error)
        return False


async def _read_to_cut(request: BackfillRequest, one: _CutLog) -> PastLog:
    """Reads one log up to its cut."""
    place, cut = one.place, one.cut
    past_log = request.past.open_log(place.start)
    for spare in _SPARES:
        try:
            _, stop = await one.log.bounds()
            await _read(past_log, one.log, place, stop, cut)
            break
        except HoleInLog as hole:
            place = place._replace(start=hole.floor)
        except OutOfRange:
            place = await place_of(one.log, cut, spare=spare)
        past_log = request.past.reopen_log(past_log, place.start)
    if place.broken and cut.time is not None:
        request.begin_late(past_log.reader.source, "evicted")
    return past_log


async def _read(past_log: PastLog, found: ReadableLog, place: LogPlace, stop: int, cut: LogCut) -> None:
    count = 0
    async for record in every_record(found, place.start, stop):
        last = place.broken and record.offset >= place.known
        known = record.offset > place.known and not place.broken
        if past_log.read(record, cut if known else None) or last:
            return
        count += 1
        if count % RECORDS_A_PAGE == 0:
            await asyncio.sleep(0)


class _Reading:
    """A request from READY on: gives it a page whenever it asks, of the partition that is furthest behind."""

    def __init__(
        self,
        request: BackfillRequest,
        logs: dict[PastLog, ReadableLog],
        recorded: RecordedSource | None,
        room: asyncio.Event,
        catch_up: Callable[[object], None],
    ) -> None:
        """`room`: set when the page before was sent."""
        self._request = request
        self._recorded = recorded
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
        request = self._request
        while True:
            await self._room.wait()
            self._room.clear()
            if request.wants_recorded:
                await self._give_recorded()
                self._catch_up(request.owner)
                continue
            try:
                await self._reread_holes()
                await self._give()
            except (KafkaError, OSError, Unreachable) as error:
                log.warning("reading the past waits: %s", error)
                await asyncio.sleep(_RETRY_S)
                self._room.set()
            else:
                self._catch_up(request.owner)

    async def _give_recorded(self) -> None:
        """The next recorded messages."""
        assert self._recorded is not None
        try:
            messages = await self._recorded.next()
        except FeedError as error:
            log.warning("a recording breaks off: %s", error)
            self._request.end_recorded(broke_off=True)
            return
        if messages is None:
            self._request.end_recorded()
        else:
            self._request.give_recorded(messages)

    async def _give(self) -> None:
        """The next records; or says that the logs have no more for now."""
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
                log.warning("reading the past was overtaken: %s", error)
                await self._start_anew(past_log)
                continue
            if found := list(records_of(raws)):
                self._request.past.give(past_log, found)
                return
            if self._next[past_log] == before:
                self._ended.add(past_log)
        if not self._request.past.due:
            self._ended.clear()
            self._goals.clear()
            self._waits = True
            self._request.at_end()

    async def _reread_holes(self) -> None:
        """Goes back where records were missing."""
        for past_log, hole in self._request.past.take_holes():
            self._ended.discard(past_log)
            if hole.floor < past_log.start:
                # from the same position on: copies are passed over
                self._next[past_log] = hole.floor
            else:
                self._reopen(past_log, hole.floor)

    async def _start_anew(self, past_log: PastLog) -> None:
        """What was to be read is deleted: goes on where the log can be read from."""
        self._overtaken = min(self._overtaken + 1, len(_SPARES))
        place = await earliest_of(self._logs[past_log], spare=_SPARES[self._overtaken - 1])
        self._reopen(past_log, place.start)

    def _reopen(self, old: PastLog, start: int) -> None:
        new = self._request.past.reopen_log(old, start)
        self._logs[new] = self._logs.pop(old)
        self._goals.pop(old, None)
        del self._next[old]
        self._next[new] = start
