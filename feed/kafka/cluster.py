"""A connection to a Kafka cluster: topics, partitions, offsets, and reading a range of a log once.

Owns the client and its metadata. Raises `Unreachable` where no broker answers; whoever follows a log for long retries.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

import google_crc32c
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from feed.errors import FeedError, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

LOG_END: Final = -1
LOG_BEGIN: Final = -2
_LOOK_UP_TRIES: Final = 40
_LOOK_UP_PAUSE_S: Final = 0.25
FETCH_BYTES: Final = 1 << 20
# a batch of records: offset and length, then what is as long as it says; from the CRC's end on it is what the CRC is of
_LENGTH_START: Final = 8
_LENGTH_END: Final = 12
_MAGIC_AT: Final = 16
_MAGIC: Final = 2
_CRC_FROM: Final = 21


class OutOfRange(FeedError):
    """A position is no longer, or not yet, in the log."""


class Raw(Protocol):
    """A record as it lies in a log: aiokafka's own, for a copy would cost more than reading it. `timestamp` is ms."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def records_of(buffer: bytes, offset: int) -> tuple[list[Raw], int]:
    """The records of a fetched buffer from `offset` on, and the offset after the last batch that was whole."""
    found: list[Raw] = []
    memory = MemoryRecords(buffer)
    end = 0
    while memory.has_next():
        batch = memory.next_batch()
        if batch is None:
            break
        start, end = end, end + _LENGTH_END + int.from_bytes(buffer[end + _LENGTH_START : end + _LENGTH_END])
        if not _undamaged(batch, buffer, start, end):
            raise FeedError(f"batch at offset {offset} fails its crc, wanted an undamaged one")
        if not batch.is_control_batch:
            found += [record for record in batch if record.offset >= offset]
        offset = max(offset, batch.next_offset)
    return found, offset


def _undamaged(batch: Any, buffer: bytes, start: int, end: int) -> bool:
    """Whether a batch at [start, end) has its CRC-32C; by the processor, in a tenth of the time that aiokafka takes."""
    if buffer[start + _MAGIC_AT] != _MAGIC:
        return bool(batch.validate_crc())
    return bool(google_crc32c.value(buffer[start + _CRC_FROM : end]) == batch.crc)


class Cluster:
    """One client of a cluster. Use as an asynchronous context, or `start` and `stop`."""

    def __init__(self, bootstrap: str, *, client_id: str = "feed", request_timeout_ms: int = 10_000) -> None:
        self.bootstrap = bootstrap
        self.client = AIOKafkaClient(
            bootstrap_servers=bootstrap,
            client_id=client_id,
            request_timeout_ms=request_timeout_ms,
            metadata_max_age_ms=5_000,
        )

    async def start(self) -> None:
        """Connects.

        Raises:
            Unreachable: no broker answered at `bootstrap`.
        """
        try:
            await self.client.bootstrap()
        except asyncio.CancelledError:
            await self.client.close()
            raise
        except (KafkaConnectionError, KafkaError, OSError) as error:
            await self.client.close()
            raise Unreachable(f"no kafka broker answers at {self.bootstrap}") from error

    async def stop(self) -> None:
        """Closes all connections."""
        await self.client.close()

    async def __aenter__(self) -> Cluster:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def topics(self) -> dict[str, int]:
        """All topics and their partition counts."""
        metadata = await self.client.fetch_all_metadata()
        return {topic: len(metadata.partitions_for_topic(topic) or ()) for topic in metadata.topics()}

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has now; 0 where there is no such topic."""
        return (await self.topics()).get(topic, 0)

    async def leader(self, partition: TopicPartition, *, tries: int = _LOOK_UP_TRIES) -> int:
        """The node that leads a partition; waits a while for one.

        Raises:
            Unreachable: nobody led it after so many looks.
        """
        self.client.add_topic(partition.topic)
        for _ in range(tries):
            leader = self.client.cluster.leader_for_partition(partition)
            if leader is not None and leader != -1:
                return int(leader)
            await self.client.force_metadata_update()
            if self.client.cluster.leader_for_partition(partition) in (None, -1):
                await asyncio.sleep(_LOOK_UP_PAUSE_S)
        raise Unreachable(f"no leader for partition {partition.partition} of {partition.topic}")

    async def offsets(self, partition: TopicPartition) -> tuple[int, int]:
        """Begin and end of a log."""
        return await self._offset(partition, LOG_BEGIN), await self._offset(partition, LOG_END)

    async def offset_at(self, partition: TopicPartition, timestamp_ms: int) -> int | None:
        """The first offset at or after a time; None where nothing is that late, or the broker does not know."""
        offset = await self._offset(partition, timestamp_ms)
        return None if offset < 0 else offset

    async def read(self, partition: TopicPartition, start: int, stop: int) -> AsyncIterator[list[Raw]]:
        """The records in [start, stop), in pages; ends early where the log does not hold them any more.

        Raises:
            OutOfRange: `start` is not in the log.
        """
        offset = start
        while offset < stop:
            buffer = await self._fetch(partition, offset)
            records, after = records_of(buffer, offset)
            if after == offset and not records:
                return
            yield [record for record in records if record.offset < stop]
            offset = after

    async def page(self, partition: TopicPartition, offset: int, bytes_max: int) -> tuple[list[Raw], int]:
        """The records that come next, about so many bytes but at least a batch, and the offset after them.

        None where there are none: at the end of the log.

        Raises:
            OutOfRange: the offset is not in the log.
        """
        return records_of(await self._fetch(partition, offset, bytes_max), offset)

    async def settings(self, topic: str) -> Mapping[str, str]:
        """A topic's settings as the broker has them; empty where it does not say (the demo's broker)."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            await admin.start()
            answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
            return {entry[0]: entry[1] for answer in answers for resource in answer.resources for entry in resource[4]}
        except (TimeoutError, KafkaError, OSError, AttributeError, NotImplementedError):
            return {}
        finally:
            await admin.close()

    async def make_topics(
        self, topics: Mapping[str, int], settings: Mapping[str, str], *, replication: int = 1
    ) -> list[str]:
        """Makes those topics (name to partitions) that are missing, with these settings; says which."""
        known = await self.topics()
        missing = {name: count for name, count in topics.items() if name not in known}
        if not missing:
            return []
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            await admin.create_topics(
                [NewTopic(name, count, replication, topic_configs=dict(settings)) for name, count in missing.items()]
            )
        except TopicAlreadyExistsError:
            pass  # somebody else was faster: just as well
        finally:
            await admin.close()
        for name, count in missing.items():
            for partition in range(count):
                await self.leader(TopicPartition(name, partition))
        return list(missing)

    async def grow(self, topic: str, partitions: int) -> None:
        """Gives a topic more partitions."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            await admin.create_partitions({topic: NewPartitions(partitions)})
        finally:
            await admin.close()
        for partition in range(partitions):
            await self.leader(TopicPartition(topic, partition))

    async def _offset(self, partition: TopicPartition, when: int) -> int:
        request = OffsetRequest(-1, 0, [(partition.topic, [(partition.partition, when)])])
        for _ in range(_LOOK_UP_TRIES):
            try:
                node = await self.leader(partition)
                answer = await self.client.send(node, request, group=ConnectionGroup.COORDINATION)
            except KafkaError:
                await asyncio.sleep(_LOOK_UP_PAUSE_S)
                continue
            code, offset = answer.topics[0][1][0][1], answer.topics[0][1][0][-1]
            if code == 0:
                return int(offset)
            await self.client.force_metadata_update()
            await asyncio.sleep(_LOOK_UP_PAUSE_S)
        raise Unreachable(f"no answer on the offsets of partition {partition.partition} of {partition.topic}")

    async def _fetch(self, partition: TopicPartition, offset: int, bytes_max: int = FETCH_BYTES) -> bytes:
        request = FetchRequest(50, 1, 50 << 20, 0, [(partition.topic, [(partition.partition, offset, bytes_max)])])
        for _ in range(_LOOK_UP_TRIES):
            try:
                node = await self.leader(partition)
                answer = await self.client.send(node, request, group=ConnectionGroup.COORDINATION)
            except KafkaError:
                await asyncio.sleep(_LOOK_UP_PAUSE_S)
                continue
            found = answer.topics[0][1][0]
            if found[1] == 0:
                if found[-1] or offset >= found[2]:
                    return bytes(found[-1] or b"")
                continue  # the broker had nothing ready in time, though it is there
            error = for_code(found[1])
            if error.__name__ == "OffsetOutOfRangeError":
                raise OutOfRange(f"offset {offset} of partition {partition.partition} of {partition.topic}")
            await self.client.force_metadata_update()
            await asyncio.sleep(_LOOK_UP_PAUSE_S)
        raise Unreachable(f"no answer on partition {partition.partition} of {partition.topic}")
