"""Appending to a log: batches of records to one partition, in order, one batch in flight.

Owns the producer. Its one rule: after a failure nothing more is sent through the same `Appender`; make a new one and
look at what the log holds. Measured: records sent after a failed one are acknowledged, and the failed one is a hole
for good.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Literal

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from feed.errors import FeedError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka.structs import TopicPartition

BATCH_BYTES_MAX: Final = 1 << 20
RECORD_BYTES_MAX: Final = 15 << 20
_METADATA_TRIES: Final = 40
_METADATA_PAUSE_S: Final = 0.1
Compression = Literal["none", "zstd", "lz4", "snappy", "gzip"]


class AppendFailed(FeedError):
    """It is not known whether the batch lies in the log."""


class Appender:
    """An idempotent producer, `acks=all`. Serves several partitions, each with one batch in flight."""

    def __init__(self, bootstrap: str, *, compression: Compression = "none", timeout_ms: int = 30_000) -> None:
        self._bootstrap = bootstrap
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            enable_idempotence=True,
            acks="all",
            compression_type=None if compression == "none" else compression,
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=RECORD_BYTES_MAX + BATCH_BYTES_MAX,
            request_timeout_ms=timeout_ms,
            metadata_max_age_ms=30_000,
        )

    async def start(self) -> None:
        """Connects.

        Raises:
            Unreachable: no broker answered.
        """
        try:
            await self._producer.start()
        except asyncio.CancelledError:
            await self._producer.stop()
            raise
        except (KafkaError, OSError) as error:
            await self._producer.stop()
            raise Unreachable(f"no kafka broker answers at {self._bootstrap}") from error

    async def stop(self) -> None:
        """Closes the producer; batches in flight are given up."""
        await self._producer.stop()

    async def append(
        self, partition: TopicPartition, records: Sequence[tuple[bytes | None, bytes, list[tuple[str, bytes]]]]
    ) -> list[int]:
        """Appends (key, value, headers) in this order and waits until all replicas have them; gives their offsets.

        Raises:
            AppendFailed: one batch failed; those before it are in the log, it may be, those after it are not.
        """
        await self._know(partition)
        offsets: list[int] = []
        at = 0
        while at < len(records):
            batch = self._producer.create_batch()
            now_ms = int(time.time() * 1000)
            count = 0
            size = 0
            for key, value, headers in records[at:]:
                # the builder takes one record of any size, but counts what it holds before compression
                size += len(value)
                if count and size > BATCH_BYTES_MAX:
                    break
                if batch.append(timestamp=now_ms, key=key, value=value, headers=headers) is None:
                    break
                count += 1
            if not count:
                raise AppendFailed(f"record of {len(records[at][1])} bytes, wanted at most {RECORD_BYTES_MAX}")
            batch.close()
            try:
                future = await self._producer.send_batch(batch, partition.topic, partition=partition.partition)
                metadata = await future
            except KafkaError as error:
                raise AppendFailed(f"batch of {count} records to {partition}: {error!r}") from error
            offsets += range(metadata.offset, metadata.offset + count)
            at += count
        return offsets

    async def _know(self, partition: TopicPartition) -> None:
        """Waits until the producer has heard of the partition: one that was just added it takes for a mistake."""
        client = self._producer.client
        for _ in range(_METADATA_TRIES):
            if partition.partition in (client.cluster.partitions_for_topic(partition.topic) or ()):
                return
            client.add_topic(partition.topic)
            await client.force_metadata_update()
            if partition.partition not in (client.cluster.partitions_for_topic(partition.topic) or ()):
                await asyncio.sleep(_METADATA_PAUSE_S)
        raise AppendFailed(f"no partition {partition.partition} of {partition.topic}")
