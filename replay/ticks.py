"""Recorded ticks written back into their topics: same partitions, keys, values and headers.

Owns the reading of the table `ticks` and the pace. So an incident can be put through a normalizer again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from aiokafka.structs import TopicPartition

from feed.errors import ConfigError
from feed.kafka.access import Entrance
from feed.kafka.append import Appender, Compression
from feed.kafka.cluster import Cluster
from feed.kafka.rights import Right
from feed.recording.recording import RecordingFiles
from feed.recording.tables import TICKS
from replay.pacing import Pacing, Speed, seconds

Entry = tuple[bytes | None, bytes, list[tuple[str, bytes]]]
_NS_PER_MS = 1_000_000


class RecordedTick(NamedTuple):
    """One tick: where it lay, Kafka's time of it in nanoseconds (below 0: it has none), and the record."""

    partition: TopicPartition
    offset: int
    time: int
    entry: Entry


def ticks_of(recording: RecordingFiles) -> Iterator[list[RecordedTick]]:
    """The ticks of a recording in the order in which they were read, a block at a time.

    Raises:
        CorruptRecording: a batch is damaged.
    """
    table_files = recording.files_by_table[TICKS]
    for ref in table_files.refs():
        batch = table_files.rows(ref)
        names = ("topic", "partition", "offset", "timestamp", "key", "value", "headers")
        columns = {name: batch.column(name) for name in names}
        columns["timestamp"] = columns["timestamp"].cast("int64")
        rows = zip(*(columns[name].to_pylist() for name in names), strict=True)
        yield [
            RecordedTick(
                TopicPartition(topic, partition),
                offset,
                timestamp * _NS_PER_MS,
                (key, value or b"", [(header["name"], header["value"]) for header in headers]),
            )
            for topic, partition, offset, timestamp, key, value, headers in rows
        ]


def opened_ticks(path: str) -> RecordingFiles:
    """The ticks of a recording.

    Raises:
        ConfigError: it has none.
    """
    recording = RecordingFiles(path, tables=(TICKS,))
    if not len(recording.files_by_table[TICKS]):
        raise ConfigError(f"{path} has no ticks: it was not recorded with --raw")
    return recording


async def publish_ticks(
    recording: RecordingFiles,
    broker: Entrance | str,
    topic_settings: dict[str, str],
    compression: Compression,
    *,
    speed: Speed,
    tell: Callable[[int], None],
) -> int:
    """Writes all of them at the end of their topics; how many. Topics that are missing are made.

    Raises:
        ConfigError: a topic has fewer partitions than were recorded.
        Unreachable: no broker answers; NotLetIn where we are not let in, or may not write.
        AppendFailed: it is not known what of the last batches lies in the log.
    """
    partitions: dict[str, int] = {}
    for source in recording.positions:
        topic, _, number = source.rpartition("/")
        partitions[topic] = max(partitions.get(topic, 0), int(number) + 1)
    async with Cluster(broker) as cluster:
        await cluster.must_have(Right("WRITE", "topic", topic) for topic in partitions)
        await cluster.make_topics(partitions, topic_settings)
        for topic, count in partitions.items():
            if (found := await cluster.partitions(topic)) < count:
                raise ConfigError(f"topic {topic} has {found} partitions, wanted {count}, as many as were recorded")
    appender = Appender(broker, compression=compression, timeout_ms=60_000)
    await appender.start()
    pacing, done = Pacing(speed), 0
    try:
        for ticks in ticks_of(recording):
            for due in _due(ticks, pacing):
                if isinstance(due, float):
                    await asyncio.sleep(due)
                    continue
                together: dict[TopicPartition, list[Entry]] = {}
                for tick in due:
                    together.setdefault(tick.partition, []).append(tick.entry)
                await asyncio.gather(*(appender.append(where, entries) for where, entries in together.items()))
                done += len(due)
                tell(done)
    finally:
        await appender.stop()
    return done


def _due(ticks: list[RecordedTick], pacing: Pacing) -> Iterator[list[RecordedTick] | float]:
    """Ticks that are due together, and seconds to wait in between."""
    at = 0
    while at < len(ticks):
        now = time.monotonic_ns()
        # a tick that was written without a time is due with the one before it
        if ticks[at].time >= 0 and (wait := pacing.wait_ns(ticks[at].time, now)):
            yield seconds(wait)
            continue
        reached = pacing.reached_ns(now) if ticks[at].time >= 0 else ticks[at].time
        stop = at + 1
        while stop < len(ticks) and ticks[stop].time <= reached:
            stop += 1
        yield ticks[at:stop]
        at = stop
