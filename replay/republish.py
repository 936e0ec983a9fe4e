"""A recording written back as feed logs: what a gateway needs to serve it as if it were live.

Owns the way from pages of messages to records: one source record an incarnation, data records that cover the ticks of
their messages, keyframe records where the recording has a snapshot in its stream, and keyframes of all channels now and
then, so that a gateway that starts later reads little. Leaves order to `feed.recording`, records to
`feed.wire.record`.

Sources, ticks and bytes are those of the recording. The partitions of the topic must be empty: a source that goes on
in somebody else's log would be void.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
from aiokafka.structs import TopicPartition

from feed.channels.hub import Hub, HubSettings
from feed.channels.steps import whole
from feed.errors import ConfigError
from feed.kafka.access import Entrance
from feed.kafka.append import Appender, Compression
from feed.kafka.cluster import Cluster
from feed.kafka.rights import Right
from feed.recording.filter import Filter
from feed.recording.merge import RowPage
from feed.recording.recording import RecordingFiles
from feed.recording.state_at import Channel, ChannelState
from feed.recording.table_files import FROM_BEGIN, RecordingCut
from feed.wire.model import NO_SEQ
from feed.wire.record import EMPTY, PART_BYTES_MAX, Record, RecordKind, headers_of
from replay.pacing import Pacing, Speed, seconds

KEYFRAME_BYTES: Final = 16 << 20
_RECORD_BYTES: Final = 192 * 1024
_ALIVE_S: Final = 1.0
_VERSION: Final = "0.recorded"
_SNAPSHOT: Final = b'{"type":"snapshot"'
_GAP: Final = b'{"type":"gap"'
_VENUE: Final = b'"reason":"venue"'


class Published(NamedTuple):
    """How far it is: messages and bytes written, recorded and real seconds."""

    messages: int
    bytes: int
    recorded_s: float
    elapsed_s: float


class _Log:
    """One partition of a feed topic as it is written."""

    def __init__(self, partition: TopicPartition, partitions: int) -> None:
        self.partition = partition
        self.source = ""
        self.pos = NO_SEQ
        self.floor = 0
        self.since_keyframes = 0
        self.waiting: list[Record] = []
        self.hub = Hub(HubSettings(resume_window_bytes_max=0, resume_window_ms=0))
        self._partitions = partitions
        self._messages: list[bytes] = []
        self._size = 0
        self._last = NO_SEQ

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be written."""
        return not self._messages and not self.waiting

    def begin(self, source: str, before_tick: int) -> None:
        """An incarnation, from after this tick on."""
        self.cover()
        ends, self.source = self.source, source
        self.pos = before_tick
        self._add("source", EMPTY, ends=ends, carries=bool(ends))
        self.hub.opened(source, ends, bool(ends))

    def add(self, message: bytes, at: int) -> None:
        """A message of a tick."""
        if self._size >= _RECORD_BYTES and at > self._last:
            self.cover()
        self._messages.append(message)
        self._size += len(message)
        self._last = max(self._last, at)

    def cover(self, tick: int = NO_SEQ) -> None:
        """A record with what has come; it covers the ticks up to the last one, or to this one."""
        last = max(self._last, tick, self.pos)
        messages, self._messages, self._size, self._last = self._messages, [], 0, NO_SEQ
        values = list(_values(messages))
        for value in values[:-1]:
            self._add("data", value)
            self.hub.data(self.source, self.pos, self.pos, value, last + 1)
        after, self.pos = self.pos, last
        value = values[-1] if values else EMPTY
        self._add("data", value, after=after, first=min(after + 1, last), last=last)
        self.hub.data(self.source, after, last, value, last + 1)
        self.since_keyframes += sum(map(len, values))

    def keyframe(self, symbol: str, messages: list[bytes]) -> None:
        """Snapshots and states of one symbol, as of what was covered."""
        self.cover()
        for value in _values(messages):
            self._add("keyframe", value, symbol=symbol, at=self.pos)
            self.hub.keyframe(self.source, symbol, value)

    def keyframes(self) -> int:
        """Those of all its channels; how many records wait before them."""
        self.cover()
        self.hub.flush(0)
        for _ in self.hub.fan_out():
            pass
        before = len(self.waiting)
        for found in self.hub.symbols():
            messages = [one for kind in found.kinds for one in whole(self.hub.snapshot(kind, found.symbol)) or ()]
            for value in _values(messages):
                self._add("keyframe", value, symbol=found.symbol, at=self.pos)
        self.since_keyframes = 0
        return before

    def _add(self, kind: RecordKind, value: bytes, **more: object) -> None:
        fields = {"after": self.pos, "first": self.pos, "last": self.pos, **more}
        self.waiting.append(
            Record(
                source=self.source,
                kind=kind,
                partitions=self._partitions,
                version=_VERSION,
                floor=self.floor,
                since=self.pos,
                end=self.pos + 1,
                value=value,
                **fields,  # type: ignore[arg-type]
            )
        )


class Republisher:
    """Writes a recording's stream into topics `feed.<venue>`."""

    def __init__(self, appender: Appender, topic_of: Callable[[str], str], partitions: dict[str, int]) -> None:
        """`partitions`: of each feed topic."""
        self._appender = appender
        self._topic_of = topic_of
        self._partitions = partitions
        self._logs: dict[str, _Log] = {}
        self.messages = 0
        self.bytes = 0

    async def page(self, page: RowPage) -> None:
        """Messages in order."""
        messages = page.messages.to_pylist()
        codes = page.source.tolist()
        names = page.sources
        for row, (text, code, at) in enumerate(zip(messages, codes, page.at.tolist(), strict=True)):
            message = text.encode()
            log = self._log(names[code])
            if log.source != names[code]:
                log.begin(names[code], at - 1 if not message.startswith((_SNAPSHOT, _GAP)) else at)
            if message.startswith(_SNAPSHOT):
                log.keyframe(page.symbols[int(page.symbol[row])], [message])
            elif not message.startswith(_GAP) or _VENUE in message:
                log.add(message, at)
            self.bytes += len(message)
        self.messages += len(messages)
        await self.flush()

    async def flush(self, *, alive: bool = False) -> None:
        """Covers what has come and writes it; `alive`: also of logs where nothing has."""
        for log in self._logs.values():
            if log.idle and not alive:
                continue
            log.cover()
            frames_from = log.keyframes() if log.since_keyframes >= KEYFRAME_BYTES else None
            records, log.waiting = log.waiting, []
            offsets = await self._append(log, records)
            if frames_from is not None and frames_from < len(offsets):
                log.floor = offsets[frames_from]

    def stand(self, standing: dict[Channel, ChannelState]) -> None:
        """How channels stood where the stream begins."""
        ticks: dict[str, int] = {}
        for found in standing.values():
            ticks[found.source] = max(ticks.get(found.source, NO_SEQ), found.seq)
        for source, tick in ticks.items():
            self._log(source).begin(source, tick)
        for (_, symbol), found in standing.items():
            self._log(found.source).keyframe(symbol, found.messages)

    async def _append(self, log: _Log, records: list[Record]) -> list[int]:
        batch = [(None, record.value, headers_of(record)) for record in records]
        return await self._appender.append(log.partition, batch)

    def _log(self, source: str) -> _Log:
        partition, _, _ = source.partition("@")
        found = self._logs.get(partition)
        if found is None:
            venue, _, number = partition.rpartition("/")
            topic = self._topic_of(venue)
            found = self._logs[partition] = _Log(TopicPartition(topic, int(number)), self._partitions[topic])
        return found


async def republish(
    recording: RecordingFiles,
    broker: Entrance | str,
    topic_of: Callable[[str], str],
    topic_settings: dict[str, str],
    compression: Compression,
    *,
    chosen: Filter,
    start: RecordingCut,
    end: RecordingCut,
    speed: Speed,
    tell: Callable[[Published], None],
) -> Published:
    """Writes all of it; returns when it is in the logs.

    Raises:
        ConfigError: a partition that is to be written is not empty.
        Unreachable: no broker answers; NotLetIn where we are not let in, or may not write.
        AppendFailed: it is not known what of the last records lies in the log.
    """
    partitions = _partitions(recording, topic_of)
    async with Cluster(broker) as cluster:
        await cluster.must_have(Right("WRITE", "topic", topic) for topic in partitions)
        await cluster.make_topics(partitions, topic_settings)
        for topic, count in partitions.items():
            if await cluster.partitions(topic) < count:
                raise ConfigError(f"topic {topic} has fewer than {count} partitions, as many as were recorded")
            for number in range(count):
                begin, stop = await cluster.offsets(TopicPartition(topic, number))
                if stop > begin:
                    raise ConfigError(
                        f"partition {number} of {topic} is not empty: a recording is published into a new log"
                    )
    appender = Appender(broker, compression=compression, timeout_ms=60_000)
    await appender.start()
    try:
        start = begin_of(recording, chosen, start)
        writer = Republisher(appender, topic_of, partitions)
        if start.time > FROM_BEGIN.time:
            writer.stand(recording.standing(chosen, start))
            await writer.flush(alive=True)
        return await _play(recording.pages(chosen, start, end, separator=""), writer, Pacing(speed), tell)
    finally:
        await appender.stop()


def begin_of(recording: RecordingFiles, chosen: Filter, start: RecordingCut) -> RecordingCut:
    """Where it begins: not before it is known how all channels stand, where the first files were deleted."""
    return RecordingCut(max(start.time, recording.footing(chosen.tables)))


async def _play(
    pages: Iterator[RowPage], writer: Republisher, pacing: Pacing, tell: Callable[[Published], None]
) -> Published:
    began = time.monotonic()
    first: int | None = None
    last = 0

    def done() -> Published:
        recorded = seconds(last - first) if first is not None else 0.0
        return Published(writer.messages, writer.bytes, recorded, time.monotonic() - began)

    for page in pages:
        at = 0
        while at < len(page):
            clock = int(page.clock[at])
            first = clock if first is None else first
            now = time.monotonic_ns()
            if wait := pacing.wait_ns(clock, now):
                await asyncio.sleep(min(seconds(wait), _ALIVE_S))
                if seconds(wait) > _ALIVE_S:
                    await writer.flush(alive=True)  # a log that says nothing is taken for one whose writer has stopped
                continue
            due = int(np.searchsorted(page.clock, max(clock, pacing.reached_ns(now)), "right"))
            await writer.page(page.slice(at, due))
            last = max(last, int(page.clock[due - 1]))
            at = due
        tell(done())
    return done()


def _partitions(recording: RecordingFiles, topic_of: Callable[[str], str]) -> dict[str, int]:
    """The topics, and how many partitions each needs."""
    found: dict[str, int] = {}
    for table_files in recording.files_by_table.values():
        for ref in table_files.refs():
            for source in table_files.block(ref).note.sources:
                venue, _, number = source.partition("@")[0].rpartition("/")
                topic = topic_of(venue)
                found[topic] = max(found.get(topic, 0), int(number) + 1)
    return found


def _values(messages: list[bytes]) -> Iterator[bytes]:
    """The messages as values of records, each about `PART_BYTES_MAX` long at most."""
    group: list[bytes] = []
    size = 0
    for message in messages:
        if group and size + len(message) > PART_BYTES_MAX:
            yield b"[" + b",".join(group) + b"]"
            group, size = [], 0
        group.append(message)
        size += len(message)
    if group:
        yield b"[" + b",".join(group) + b"]"
