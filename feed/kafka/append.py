"""Appending to a log: batches of records to one partition, in order, one batch in flight.

Owns how records are cut into batches. Its one rule: after a failure nothing more is sent through the same `Appender`;
make a new one and look at what the log holds. Measured: records sent after a failed one are acknowledged, and the
failed one is a hole for good. Leaves sending to `produce`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Literal

from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from feed.errors import FeedError
from feed.kafka.produce import ProduceFailed, Producer
from feed.kafka.rights import is_denied, no_topic_right

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka.structs import TopicPartition

    from feed.kafka.access import Entrance

BATCH_BYTES_MAX: Final = 1 << 20
RECORD_BYTES_MAX: Final = 15 << 20
_METADATA_TRIES: Final = 40
_METADATA_PAUSE_S: Final = 0.1
_MAGIC: Final = 2
Compression = Literal["none", "zstd", "lz4", "snappy", "gzip"]
_CODECS: Final[dict[Compression, int]] = {
    "none": DefaultRecordBatch.CODEC_NONE,
    "zstd": DefaultRecordBatch.CODEC_ZSTD,
    "lz4": DefaultRecordBatch.CODEC_LZ4,
    "snappy": DefaultRecordBatch.CODEC_SNAPPY,
    "gzip": DefaultRecordBatch.CODEC_GZIP,
}


Entry = tuple["bytes | None", "bytes | None", "list[tuple[str, bytes]]"]
"""Key, value and headers of a record."""


class AppendFailed(FeedError):
    """It is not known whether the batch lies in the log."""


class Appender:
    """An idempotent producer, `acks=all`. Serves several partitions, each with one batch in flight."""

    def __init__(self, broker: Entrance | str, *, compression: Compression = "none", timeout_ms: int = 30_000) -> None:
        """`timeout_ms`: how long a batch that Kafka does not take is tried again."""
        self._codec = _CODECS[compression]
        request_bytes_max = RECORD_BYTES_MAX + BATCH_BYTES_MAX
        self._producer = Producer(broker, timeout_ms=timeout_ms, request_bytes_max=request_bytes_max)

    async def start(self) -> None:
        """Connects.

        Raises:
            Unreachable: no broker answered.
        """
        await self._producer.start()

    async def stop(self) -> None:
        """Closes the producer; batches in flight are given up."""
        await self._producer.stop()

    async def append(self, partition: TopicPartition, records: Sequence[Entry]) -> list[int]:
        """Appends (key, value, headers) in this order and waits until all replicas have them; gives their offsets.

        Raises:
            AppendFailed: one batch failed; those before it are in the log, it may be, those after it are not.
        """
        await self._know(partition)
        offsets: list[int] = []
        at = 0
        while at < len(records):
            count, buffer = self._batch(partition, records, at)
            try:
                offset = await self._producer.produce(partition, buffer)
            except (KafkaError, ProduceFailed) as error:
                words = no_topic_right("WRITE", partition.topic) if is_denied(error) else repr(error)
                raise AppendFailed(f"batch of {count} records to {partition}: {words}") from error
            offsets += range(offset, offset + count)
            at += count
        return offsets

    def _batch(
        self,
        partition: TopicPartition,
        records: Sequence[Entry],
        start: int,
    ) -> tuple[int, bytearray]:
        """As many of the records from `start` on as a batch holds, and the batch."""
        builder = DefaultRecordBatchBuilder(_MAGIC, self._codec, 0, -1, -1, 0, BATCH_BYTES_MAX)
        now_ms = int(time.time() * 1000)
        count = size = 0
        for key, value, headers in records[start:]:
            # one record of any size is taken; what a batch holds is counted before compression
            size += len(value or b"")
            if count and size > BATCH_BYTES_MAX:
                break
            if builder.append(count, now_ms, key, value, headers) is None:
                break
            count += 1
        builder.set_producer_state(*self._producer.number(partition, count))
        return count, builder.build()

    async def _know(self, partition: TopicPartition) -> None:
        """Waits until the producer has heard of the partition: one that was just added it takes for a mistake."""
        client = self._producer.client
        for _ in range(_METADATA_TRIES):
            if partition.partition in (client.cluster.partitions_for_topic(partition.topic) or ()):
                return
            client.add_topic(partition.topic)
            await client.force_metadata_update()
            if partition.topic in client.cluster.unauthorized_topics:
                raise AppendFailed(str(no_topic_right("WRITE", partition.topic)))
            if partition.partition not in (client.cluster.partitions_for_topic(partition.topic) or ()):
                await asyncio.sleep(_METADATA_PAUSE_S)
        raise AppendFailed(f"no partition {partition.partition} of {partition.topic}")
