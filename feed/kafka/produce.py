"""Producing batches below aiokafka's producer: what several partitions have ready goes out in one request.

Owns the idempotent producer's identity, the numbering of records, which batch is in flight, and repeating what a
broker did not take. Leaves what is in a batch to `append`.

A broker refuses records whose time is too far from its own (`message.timestamp.after.max.ms`, an hour by default): a
machine with a wrong clock could write nothing. Nothing rests on those times, so such a batch goes out again without
one, and so does what follows for a while; whose clock is wrong is said.

A node has one request in flight; what becomes ready meanwhile goes into the next one. So an idle log is written at
once, a busy one in few requests. aiokafka's own producer does the same in many more steps: a batch went through five
futures and three tasks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import google_crc32c
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import InvalidTimestampError, KafkaError, LeaderNotAvailableError, UnknownError, for_code
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.structs import TopicPartition

from feed.errors import FeedError, NotLetIn
from feed.kafka.access import Entrance, entrance_to
from feed.kafka.requests import ProduceRequest
from feed.kafka.rights import is_denied
from feed.runtime.tasks import end
from feed.runtime.throttle import ThrottledLog

_ALL_REPLICAS: Final = -1
_RETRY_S: Final = 0.1
_SEQUENCE_END: Final = 1 << 31
_NOT_ANSWERED: Final = (UnknownError.errno, -1)
_NO_TRANSACTION_MS: Final = (1 << 31) - 1
_UNTIMED_S: Final = 60.0
"""For so long a topic that refused our times gets batches without; then a time is tried again."""
# of a batch: its CRC is of everything from the attributes on, and the times are those of its first and its last record
_CRC: Final = slice(17, 21)
_CRC_FROM: Final = 21
_TIMES: Final = slice(27, 43)
_NO_TIMES: Final = b"\xff" * 16
log: Final = logging.getLogger("feed.kafka")


class ProduceFailed(FeedError):
    """It is not known whether a batch lies in the log."""


class Batch:
    """Records of one partition, built; `offset` is resolved with the offset of the first of them."""

    __slots__ = ("buffer", "deadline", "offset", "partition")

    def __init__(
        self, partition: TopicPartition, buffer: bytes | bytearray, deadline: float, offset: asyncio.Future[int]
    ) -> None:
        self.partition = partition
        self.buffer = buffer
        self.deadline = deadline
        self.offset = offset


class Producer:
    """An idempotent producer, `acks=all`. Batches of a partition land in order, one in flight.

    What fails is repeated until it lands or `timeout_ms` is over; repeating does no harm, a broker knows a batch by its
    numbers. After a batch has failed for good its partition takes nothing more.
    """

    def __init__(self, broker: Entrance | str, *, timeout_ms: int, request_bytes_max: int) -> None:
        self._entrance = entrance_to(broker)
        self.client = AIOKafkaClient(
            **self._entrance.options(), request_timeout_ms=timeout_ms, metadata_max_age_ms=30_000
        )
        self._timeout_ms = timeout_ms
        self._request_bytes_max = request_bytes_max
        self._id, self._epoch = -1, -1
        self._sequences: dict[TopicPartition, int] = {}
        self._waiting: dict[TopicPartition, deque[Batch]] = {}
        self._failed: set[TopicPartition] = set()
        self._in_flight: set[TopicPartition] = set()
        self._busy: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._untimed: dict[str, float] = {}
        """Topics that have refused our times, and until when they get none."""
        self._told = ThrottledLog(log)
        self._pumping = False
        self._stopped = False

    async def start(self) -> None:
        """Connects.

        Raises:
            Unreachable: no broker answered.
            NotLetIn: one did, and does not let us in, or write anything.
        """
        await self._entrance.connect(self.client)
        try:
            await self._identify()
        except (KafkaError, OSError) as error:
            await self.client.close()
            raise await self._entrance.reason() from error
        except BaseException:
            await self.client.close()
            raise

    async def stop(self) -> None:
        """Closes the connections; batches that have not landed fail."""
        self._stopped = True
        await end(self._tasks)
        for waiting in self._waiting.values():
            for batch in waiting:
                _fail(batch, ProduceFailed("the producer was stopped"))
        self._waiting.clear()
        await self.client.close()

    def number(self, partition: TopicPartition, count: int) -> tuple[int, int, int]:
        """Identity, epoch and first number for a batch of so many records, which is to be produced next."""
        first = self._sequences.get(partition, 0)
        self._sequences[partition] = (first + count) % _SEQUENCE_END
        return self._id, self._epoch, first

    def produce(self, partition: TopicPartition, buffer: bytes | bytearray) -> asyncio.Future[int]:
        """Sends a batch after those before it; the future is the offset at which it landed.

        The future raises ProduceFailed or a KafkaError where it did not, or may not have.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._untimed and now < self._untimed.get(partition.topic, now):
            buffer = without_times(buffer)
        batch = Batch(partition, buffer, now + self._timeout_ms / 1000, loop.create_future())
        if self._stopped or partition in self._failed:
            _fail(batch, ProduceFailed(f"{partition} takes nothing after a failure"))
            return batch.offset
        self._waiting.setdefault(partition, deque()).append(batch)
        self._pump_soon()
        return batch.offset

    async def _identify(self) -> None:
        """Gets the identity by which brokers know what they have had of this producer."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_ms / 1000
        while True:
            request = InitProducerIdRequest(None, _NO_TRANSACTION_MS)
            answer = await self.client.send(self.client.get_random_node(), request)
            if answer.error_code == 0:
                self._id, self._epoch = answer.producer_id, answer.producer_epoch
                return
            error = for_code(answer.error_code)
            if is_denied(error):
                raise NotLetIn("no right to WRITE on any topic, or to IDEMPOTENT_WRITE on the cluster")
            if loop.time() > deadline:
                raise error("no identity for a producer")
            # a broker that has just started knows no ids yet
            await asyncio.sleep(_RETRY_S)

    def _pump_soon(self) -> None:
        """After this turn of the loop: what other partitions have ready by then goes out together."""
        if not self._pumping and not self._stopped:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """One request to each node that has none in flight and leads a partition with something ready."""
        self._pumping = False
        if self._stopped:
            return
        leader_of = self.client.cluster.leader_for_partition
        ready: dict[int, list[Batch]] = {}
        sizes: dict[int, int] = {}
        unled = []
        for partition, waiting in self._waiting.items():
            if not waiting or partition in self._in_flight:
                continue
            batch = waiting[0]
            node = leader_of(partition)
            if node is None or node == -1:
                unled.append(batch)
            elif node not in self._busy:
                size = sizes.get(node, 0) + len(batch.buffer)
                if node in ready and size > self._request_bytes_max:
                    continue
                ready.setdefault(node, []).append(batch)
                sizes[node] = size
        for node, batches in ready.items():
            self._busy.add(node)
            self._start(batches, self._request(node, batches))
        if unled:
            self._start(unled, self._find_leaders(unled))

    def _start(self, batches: list[Batch], work: Any) -> None:
        self._in_flight.update([batch.partition for batch in batches])
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, batches))

    def _ended(self, batches: list[Batch], task: asyncio.Task[None]) -> None:
        """What nobody thought of went wrong: whoever waits for these batches would wait for ever."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            for batch in batches:
                self._give_up(batch.partition, error)

    async def _request(self, node: int, batches: list[Batch]) -> None:
        again: list[Batch] = []
        try:
            again = await self._send(node, batches)
        except (KafkaError, OSError) as error:
            # a connection that breaks: nobody knows what was taken
            self._told.say(("node", node, type(error)), f"producing to node {node} failed: {error!r}")
            again = [batch for batch in batches if self._is_repeated(batch, error)]
        finally:
            self._busy.discard(node)
        if again:
            self.client.force_metadata_update()
            await asyncio.sleep(_RETRY_S)
        self._landed(batches)

    async def _send(self, node: int, batches: list[Batch]) -> list[Batch]:
        """Those of the batches that have to be sent again."""
        topics: dict[str, list[tuple[int, bytes | bytearray]]] = {}
        for batch in batches:
            topic, number = batch.partition
            topics.setdefault(topic, []).append((number, batch.buffer))
        request = ProduceRequest(_ALL_REPLICAS, self._timeout_ms, list(topics.items()))
        answer = await self.client.send(node, request)
        found = {(topic, one[0]): (one[1], one[2]) for topic, partitions in answer.topics for one in partitions}
        again = []
        for batch in batches:
            code, offset = found.get(batch.partition, _NOT_ANSWERED)
            if not code:
                self._waiting[batch.partition].popleft()
                if not batch.offset.done():
                    batch.offset.set_result(offset)
                continue
            kind = for_code(code)
            if kind is InvalidTimestampError and batch.buffer[_TIMES] != _NO_TIMES:
                self._refuses_times(batch)  # and it is the next one of its partition again, at once
                continue
            error = kind(f"batch of {len(batch.buffer)} bytes to {batch.partition}")
            self._told.say((batch.partition, kind), f"producing failed: {error!r}")
            if self._is_repeated(batch, error):
                again.append(batch)
        return again

    def _refuses_times(self, batch: Batch) -> None:
        """A broker does not take our clock's time: the same batch, by its numbers, goes out without one."""
        topic = batch.partition.topic
        self._untimed[topic] = asyncio.get_running_loop().time() + _UNTIMED_S
        batch.buffer = without_times(batch.buffer)
        now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
        self._told.say(
            ("times", topic),
            f"{topic} refuses the time of this machine's clock, {now}: too far from the broker's "
            f"(message.timestamp.after.max.ms, message.timestamp.before.max.ms); it is written without times until the "
            f"clock is right, or the topic has message.timestamp.type=LogAppendTime",
        )

    async def _find_leaders(self, batches: list[Batch]) -> None:
        for batch in batches:
            self.client.add_topic(batch.partition.topic)
        await self.client.force_metadata_update()
        leader_of = self.client.cluster.leader_for_partition
        if any(leader_of(batch.partition) in (None, -1) for batch in batches):
            await asyncio.sleep(_RETRY_S)
        for batch in batches:
            self._is_repeated(batch, LeaderNotAvailableError(f"nobody leads {batch.partition}"))
        self._landed(batches)

    def _landed(self, batches: list[Batch]) -> None:
        for partition in [batch.partition for batch in batches]:
            self._in_flight.discard(partition)
            # behind the others: where not all fit into a request, all have their turn
            if waiting := self._waiting.pop(partition, None):
                self._waiting[partition] = waiting
        if self._waiting:
            self._pump_soon()

    def _is_repeated(self, batch: Batch, error: KafkaError | OSError) -> bool:
        """Whether a batch that failed is sent again. Else nothing of its partition is: what comes after it would be
        taken, and the failed batch be a hole for good."""
        passes = isinstance(error, OSError) or error.retriable
        if passes and asyncio.get_running_loop().time() < batch.deadline:
            return True
        self._give_up(batch.partition, error)
        return False

    def _give_up(self, partition: TopicPartition, error: BaseException) -> None:
        self._failed.add(partition)
        for waiting in self._waiting.pop(partition, ()):
            _fail(waiting, error)


def without_times(buffer: bytes | bytearray) -> bytearray:
    """A batch of which all records have one time, as one whose records have none (-1)."""
    changed = bytearray(buffer)
    changed[_TIMES] = _NO_TIMES
    changed[_CRC] = google_crc32c.value(bytes(changed[_CRC_FROM:])).to_bytes(4, "big")
    return changed


def _fail(batch: Batch, error: BaseException) -> None:
    if not batch.offset.done():
        batch.offset.set_exception(error)
        batch.offset.exception()  # who was cancelled meanwhile does not ask for it
