"""A connection to a Kafka cluster: topics, partitions, offsets, and reading a range of a log once.

Owns the client and its metadata. Raises `Unreachable` where no broker answers; whoever follows a log for long retries.
Each reading is of ticks (`ticks=True`: committed, to the last stable offset) or of a feed log (as it was written, to
the high watermark); see `batches`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import KafkaError, NoError, TopicAlreadyExistsError, for_code
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.structs import TopicPartition

from feed.errors import FeedError, Unreachable
from feed.kafka.access import Entrance, entrance_to
from feed.kafka.batches import FetchPage, Raw, committed, joined, written
from feed.kafka.requests import READ_COMMITTED, READ_WRITTEN, FetchRequest
from feed.kafka.rights import Operation, Right, is_denied, missing, no_right, no_topic_right

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

Found = TypeVar("Found")
LOG_END: Final = -1
LOG_BEGIN: Final = -2
_LOOK_UP_TRIES: Final = 40
_LOOK_UP_PAUSE_S: Final = 0.25
FETCH_BYTES: Final = 1 << 20
_ANSWER_BYTES: Final = 50 << 20
_WAIT_MS: Final = 50


class OutOfRange(FeedError):
    """A position is no longer, or not yet, in the log."""


class _NotNow(Exception):
    """The broker that was asked cannot answer: another one may lead by now."""


class _NothingReady(Exception):
    """The broker had nothing ready in time, though it is there; it has waited already."""


class Answer:
    """What a fetch brought of one partition.

    `end`: the offset before which all may be read (of ticks the last stable one), `written_end`: that after the last
    record. `begin`: the log's first offset.
    """

    __slots__ = ("_aborted", "_buffer", "begin", "code", "end", "number", "written_end")

    def __init__(self, found: Any, *, ticks: bool) -> None:
        """`found`: as `Fetched` has it."""
        number, code, written_end, stable_end, begin, aborted, _, records = found
        self.number: int = number
        self.code: int = code
        self.written_end: int = written_end
        self.end: int = stable_end if ticks else written_end
        self.begin: int = begin
        self._aborted: Any = aborted
        self._buffer: bytes = records or b""

    @property
    def size(self) -> int:
        """Bytes of records."""
        return len(self._buffer)

    def pages(self, offset: int, *, ticks: bool) -> list[FetchPage]:
        """The records from `offset` on.

        Raises:
            FeedError: they cannot be read.
        """
        return committed(self._buffer, offset, self._aborted) if ticks else written(self._buffer, offset)


def fetch_request(wait_ms: int, bytes_max: int, topics: list[tuple[str, list[Any]]], *, ticks: bool) -> FetchRequest:
    """A fetch of ticks or of feed logs."""
    return FetchRequest(wait_ms, bytes_max, READ_COMMITTED if ticks else READ_WRITTEN, topics)


class Cluster:
    """One client of a cluster. Use as an asynchronous context, or `start` and `stop`."""

    def __init__(self, broker: Entrance | str, *, client_id: str = "feed", request_timeout_ms: int = 10_000) -> None:
        self._entrance = entrance_to(broker)
        self.client = AIOKafkaClient(
            **self._entrance.options(),
            client_id=client_id,
            request_timeout_ms=request_timeout_ms,
            metadata_max_age_ms=5_000,
        )

    async def start(self) -> None:
        """Connects.

        Raises:
            Unreachable: no broker answered.
            NotLetIn: one did, and does not let us in.
        """
        await self._entrance.connect(self.client)

    async def stop(self) -> None:
        """Closes all connections."""
        await self.client.close()

    async def __aenter__(self) -> Cluster:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def must_have(self, rights: Iterable[Right]) -> None:
        """Returns where we have all of these rights, or the broker does not tell.

        Raises:
            NotLetIn: some are missing; the text names them.
        """
        try:
            lacking = await missing(self.client, rights)
        except (KafkaError, OSError) as error:
            raise await self._entrance.reason() from error
        if lacking:
            raise no_right(*lacking)

    async def topics(self) -> dict[str, int]:
        """All topics that we may know of, and their partition counts.

        Raises:
            NotLetIn: we are not let in any more.
        """
        try:
            metadata = await self.client.fetch_all_metadata()
        except KafkaError as error:
            if (refusal := await self._entrance.refusal()) is not None:
                raise refusal from error
            raise
        return {topic: len(metadata.partitions_for_topic(topic) or ()) for topic in metadata.topics()}

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has now; 0 where there is no such topic."""
        return (await self.topics()).get(topic, 0)

    async def leader(self, partition: TopicPartition, *, tries: int = _LOOK_UP_TRIES) -> int:
        """The node that leads a partition; waits a while for one.

        Raises:
            Unreachable: nobody led it after so many looks.
            NotLetIn: we may not know of the topic.
        """
        self.client.add_topic(partition.topic)
        for _ in range(tries):
            leader = self.client.cluster.leader_for_partition(partition)
            if leader is not None and leader != -1:
                return int(leader)
            await self.client.force_metadata_update()
            if partition.topic in self.client.cluster.unauthorized_topics:
                raise no_topic_right("DESCRIBE", partition.topic)
            if self.client.cluster.leader_for_partition(partition) in (None, -1):
                await asyncio.sleep(_LOOK_UP_PAUSE_S)
        raise Unreachable(f"no leader for partition {partition.partition} of {partition.topic}")

    async def offsets(self, partition: TopicPartition, *, ticks: bool = False) -> tuple[int, int]:
        """Begin and end of a log; of ticks the last stable offset."""
        return (
            await self._offset(partition, LOG_BEGIN, ticks=ticks),
            await self._offset(partition, LOG_END, ticks=ticks),
        )

    async def offset_at(self, partition: TopicPartition, timestamp_ms: int) -> int | None:
        """The first offset at or after a time; None where nothing is that late, or the broker does not know."""
        offset = await self._offset(partition, timestamp_ms, ticks=False)
        return None if offset < 0 else offset

    async def read(
        self, partition: TopicPartition, start: int, stop: int, *, ticks: bool = False
    ) -> AsyncIterator[list[Raw]]:
        """The records in [start, stop), in pages; ends early where the log does not hold them any more.

        Raises:
            OutOfRange: `start` is not in the log.
            FeedError: records cannot be read.
        """
        offset = start
        while offset < stop:
            found = joined(await self._fetch(partition, offset, ticks=ticks), offset)
            if found.after == offset and not found.records:
                return
            yield [record for record in found.records if record.offset < stop]
            offset = found.after

    async def pages(
        self, partition: TopicPartition, start: int, bytes_max: int = FETCH_BYTES, *, ticks: bool = False
    ) -> list[FetchPage]:
        """What one fetch brings from an offset on, about so many bytes but at least a batch; a page a leader epoch.

        Raises:
            OutOfRange: `start` is not in the log.
            FeedError: records cannot be read.
        """
        return await self._fetch(partition, start, bytes_max, ticks=ticks)

    async def page(self, partition: TopicPartition, offset: int, bytes_max: int) -> tuple[list[Raw], int]:
        """The records that come next, about so many bytes but at least a batch, and the offset after them.

        None where there are none: at the end of the log.

        Raises:
            OutOfRange: the offset is not in the log.
            FeedError: records cannot be read.
        """
        found = joined(await self._fetch(partition, offset, bytes_max), offset)
        return found.records, found.after

    async def settings(self, topic: str) -> Mapping[str, str]:
        """A topic's settings as the broker has them; empty where it does not say (the demo's broker).

        Raises:
            NotLetIn: we may not know them.
        """
        admin = AIOKafkaAdminClient(**self._entrance.options())
        try:
            await admin.start()
            answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        except (TimeoutError, KafkaError, OSError, AttributeError, NotImplementedError):
            return {}
        finally:
            await admin.close()
        resources = [resource for answer in answers for resource in answer.resources]
        if any(is_denied(for_code(resource[0])) for resource in resources):
            raise no_topic_right("DESCRIBE_CONFIGS", topic)
        return {entry[0]: entry[1] for resource in resources for entry in resource[4]}

    async def make_topics(
        self, topics: Mapping[str, int], settings: Mapping[str, str], *, replication: int | None = None
    ) -> list[str]:
        """Makes those topics (name to partitions) that are missing, with these settings; says which.

        Raises:
            FeedError: one cannot be made; NotLetIn where we may not.
        """
        known = await self.topics()
        absent = {name: count for name, count in topics.items() if name not in known}
        if not absent:
            return []
        new = [NewTopic(name, count, replication or 1, topic_configs=dict(settings)) for name, count in absent.items()]
        async with self._admin() as admin:
            answer = await admin.create_topics(new)
        for name, code, *why in answer.topic_errors:
            _must_be_done(code, Right("CREATE", "topic", name), f"topic {name} cannot be made", why)
        for _ in range(_LOOK_UP_TRIES):
            # a look at one that the brokers do not tell of yet is logged as an error by the client
            known = await self.topics()
            if all(known.get(name, 0) >= count for name, count in absent.items()):
                break
            await asyncio.sleep(_LOOK_UP_PAUSE_S)
        for name, count in absent.items():
            for partition in range(count):
                await self.leader(TopicPartition(name, partition))
        return list(absent)

    async def grow(self, topic: str, partitions: int) -> None:
        """Gives a topic more partitions.

        Raises:
            FeedError: it cannot be done; NotLetIn where we may not.
        """
        async with self._admin() as admin:
            answer = await admin.create_partitions({topic: NewPartitions(partitions)})
        for name, code, *why in answer.topic_errors:
            _must_be_done(
                code, Right("ALTER", "topic", name), f"topic {name} cannot be given {partitions} partitions", why
            )
        for partition in range(partitions):
            await self.leader(TopicPartition(topic, partition))

    @contextlib.asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(**self._entrance.options())
        try:
            await admin.start()
            yield admin
        except (KafkaError, OSError) as error:
            raise Unreachable(f"topics cannot be changed: {error!r}") from error
        finally:
            await admin.close()

    async def _offset(self, partition: TopicPartition, when: int, *, ticks: bool) -> int:
        isolation = READ_COMMITTED if ticks else READ_WRITTEN
        request = OffsetRequest(-1, isolation, [(partition.topic, [(partition.partition, when)])])

        def offset_in(answer: Any) -> int:
            found = answer.topics[0][1][0]
            if found[1]:
                raise _not_now(found[1], "DESCRIBE", partition)
            return int(found[-1])

        return await self._ask_leader(partition, request, offset_in, "the offsets of partition")

    async def _fetch(
        self, partition: TopicPartition, offset: int, bytes_max: int = FETCH_BYTES, *, ticks: bool = False
    ) -> list[FetchPage]:
        topics = [(partition.topic, [(partition.partition, offset, bytes_max)])]
        request = fetch_request(_WAIT_MS, _ANSWER_BYTES, topics, ticks=ticks)

        def pages_in(found: Any) -> list[FetchPage]:
            answer = Answer(found.topics[0][1][0], ticks=ticks)
            if answer.code == 0:
                if not answer.size and offset < answer.end:
                    raise _NothingReady
                return answer.pages(offset, ticks=ticks)
            if for_code(answer.code).__name__ == "OffsetOutOfRangeError":
                raise OutOfRange(f"offset {offset} of partition {partition.partition} of {partition.topic}")
            raise _not_now(answer.code, "READ", partition)

        return await self._ask_leader(partition, request, pages_in, "partition")

    async def _ask_leader(
        self, partition: TopicPartition, request: Any, read: Callable[[Any], Found], about: str
    ) -> Found:
        """What `read` makes of the answer of the partition's leader; asks again where there is none, or none yet.

        `read` may raise `_NotNow` or `_NothingReady`; what else it raises is the answer.

        Raises:
            Unreachable: nothing after so many tries; `about`: of what.
            NotLetIn: we may not know it.
        """
        for _ in range(_LOOK_UP_TRIES):
            try:
                node = await self.leader(partition)
                answer = await self.client.send(node, request, group=ConnectionGroup.COORDINATION)
            except KafkaError:
                await asyncio.sleep(_LOOK_UP_PAUSE_S)
                continue
            try:
                return read(answer)
            except _NothingReady:
                continue
            except _NotNow:
                await self.client.force_metadata_update()
                await asyncio.sleep(_LOOK_UP_PAUSE_S)
        raise Unreachable(f"no answer on {about} {partition.partition} of {partition.topic}")


def _not_now(code: int, operation: Operation, partition: TopicPartition) -> Exception:
    """What an answer with an error comes to: no right, or to be asked again."""
    return no_topic_right(operation, partition.topic) if is_denied(for_code(code)) else _NotNow()


def _must_be_done(code: int, right: Right, words: str, why: list[Any]) -> None:
    kind = for_code(code)
    if is_denied(kind):
        raise no_right(right)
    if kind not in (NoError, TopicAlreadyExistsError):  # somebody else was faster: just as well
        raise FeedError(f"{words}: {why[0] if why and why[0] else kind.__name__}")
