"""What shares a request, what is sent again, and that nothing follows a batch that failed: on a scripted node."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidProducerEpoch,
    InvalidTimestampError,
    KafkaConnectionError,
    KafkaError,
    NotLeaderForPartitionError,
    OutOfOrderSequenceNumber,
    TopicAuthorizationFailedError,
)
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from feed.errors import NotLetIn
from feed.kafka import produce
from feed.kafka.append import Appender, AppendFailed
from feed.kafka.batches import written
from feed.kafka.produce import ProduceFailed, Producer
from feed.kafka.requests import ProduceRequest

pytestmark = pytest.mark.anyio
ONE, TWO, THREE = (TopicPartition("log", number) for number in range(3))
Answer = dict[TopicPartition, int] | Exception


class Node:
    """A client whose only node answers as it is told: codes by partition (0 where not named), or an exception."""

    def __init__(self, *answers: Answer) -> None:
        self.cluster = self
        self.answers = list(answers)
        self.requests: list[dict[TopicPartition, bytes]] = []
        self.ends: dict[TopicPartition, int] = {}
        self.held = asyncio.Event()
        self.held.set()
        self.leader: int | None = 7
        self.looks = 0

    def leader_for_partition(self, _: TopicPartition) -> int | None:
        return self.leader

    def partitions_for_topic(self, _: str) -> set[int]:
        return {0, 1, 2}

    def add_topic(self, _: str) -> None:
        pass

    async def close(self) -> None:
        pass

    def force_metadata_update(self) -> asyncio.Future[None]:
        self.looks += 1
        return asyncio.ensure_future(asyncio.sleep(0))

    async def send(self, _: int, request: ProduceRequest) -> Any:
        sent = {TopicPartition(topic, n): bytes(data) for topic, found in request.topics for n, data in found}
        self.requests.append(sent)
        await self.held.wait()
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(topics=[("log", [self._taken(where, answer.get(where, 0)) for where in sent])])

    def _taken(self, where: TopicPartition, code: int) -> tuple[int, int, int]:
        offset = self.ends.get(where, 0)
        self.ends[where] = offset + (not code)
        return where.partition, code, -1 if code else offset


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(produce, "_RETRY_S", 0.001)


def producer_of(node: Node, *, timeout_ms: int = 60_000) -> Producer:
    made = Producer("nowhere:1", timeout_ms=timeout_ms, request_bytes_max=100)
    made.client = node
    return made


async def test_batches_of_one_turn_share_a_request_and_the_next_wait_for_its_answer() -> None:
    node = Node()
    node.held.clear()
    producer = producer_of(node)
    first = [producer.produce(where, b"a") for where in (ONE, TWO)]
    await asyncio.sleep(0.01)
    later = [producer.produce(where, b"b") for where in (ONE, THREE)] + [producer.produce(ONE, b"c")]
    await asyncio.sleep(0.01)
    assert node.requests == [{ONE: b"a", TWO: b"a"}]
    node.held.set()
    assert await asyncio.gather(*first, *later) == [0, 0, 1, 0, 2]
    assert [{**sent} for sent in node.requests[1:]] == [{ONE: b"b", THREE: b"b"}, {ONE: b"c"}]
    await producer.stop()


async def test_a_request_has_a_bound_and_all_partitions_have_their_turn() -> None:
    node = Node()
    producer = producer_of(node)
    landed = [producer.produce(where, b"x" * 60) for _ in range(2) for where in (ONE, TWO, THREE)]
    await asyncio.gather(*landed)
    assert [[where.partition for where in sent] for sent in node.requests] == [[0], [1], [2], [0], [1], [2]]
    await producer.stop()


@pytest.mark.parametrize("trouble", [KafkaConnectionError(), OSError(), {ONE: NotLeaderForPartitionError.errno}])
async def test_what_was_not_taken_is_sent_again_as_it_was_and_before_anything_else(trouble: Answer) -> None:
    node = Node(trouble, trouble)
    producer = producer_of(node)
    first, second = producer.produce(ONE, b"a"), producer.produce(ONE, b"b")
    assert (await first, await second) == (0, 1)
    assert node.requests == [{ONE: b"a"}] * 3 + [{ONE: b"b"}]
    assert node.looks >= 2
    await producer.stop()


async def test_a_batch_whose_time_is_refused_goes_out_at_once_without_one_and_so_do_those_that_follow(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(produce, "_RETRY_S", 60.0)  # nothing waits
    node = Node({ONE: InvalidTimestampError.errno})
    producer = producer_of(node)
    batches = [batch_of(value) for value in (b"a", b"b")]
    assert [await producer.produce(ONE, batch) for batch in batches] == [0, 1]
    assert await producer.produce(TWO, batches[0]) == 0  # the same topic
    untimed = [produce.without_times(batch) for batch in batches]
    assert node.requests == [{ONE: batches[0]}, {ONE: untimed[0]}, {ONE: untimed[1]}, {TWO: untimed[0]}]
    for batch, value in zip(untimed, (b"a", b"b"), strict=True):
        [[raw]] = [list(page.records) for page in written(bytes(batch), 0)]
        assert (raw.timestamp, raw.key, raw.value, raw.headers) == (-1, b"k", value, [("h", b"1")])
    assert ["refuses the time of this machine's clock" in words for words in caplog.messages] == [True]
    await producer.stop()


async def test_a_topic_that_refused_a_time_is_tried_with_one_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(produce, "_UNTIMED_S", 0.0)
    node = Node({ONE: InvalidTimestampError.errno})
    producer = producer_of(node)
    assert [await producer.produce(ONE, batch_of(b"a")) for _ in range(2)] == [0, 1]
    assert node.requests[2] == {ONE: batch_of(b"a")}
    await producer.stop()


async def test_a_batch_without_a_time_that_is_refused_for_it_all_the_same_fails() -> None:
    node = Node({ONE: InvalidTimestampError.errno}, {ONE: InvalidTimestampError.errno})
    producer = producer_of(node)
    with pytest.raises(InvalidTimestampError):
        await producer.produce(ONE, batch_of(b"a"))
    assert len(node.requests) == 2
    await producer.stop()


def batch_of(value: bytes) -> bytes:
    """A real one, of a known time."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 20)
    builder.append(0, 1_700_000_000_000, b"k", value, [("h", b"1")])
    builder.set_producer_state(5, 0, 0)
    return bytes(builder.build())


@pytest.mark.parametrize("error", [OutOfOrderSequenceNumber, InvalidProducerEpoch])
async def test_nothing_follows_a_batch_that_failed_and_other_partitions_go_on(error: type[KafkaError]) -> None:
    node = Node({ONE: error.errno})
    producer = producer_of(node)
    lost, behind, other = producer.produce(ONE, b"a"), producer.produce(ONE, b"b"), producer.produce(TWO, b"c")
    with pytest.raises(error):
        await lost
    with pytest.raises(error):
        await behind
    with pytest.raises(ProduceFailed):
        await producer.produce(ONE, b"d")
    assert (await other, await producer.produce(TWO, b"e")) == (0, 1)
    assert node.requests == [{ONE: b"a", TWO: b"c"}, {TWO: b"e"}]
    await producer.stop()


async def test_a_batch_that_nobody_takes_fails_in_time() -> None:
    node = Node(*[KafkaConnectionError()] * 1000)
    producer = producer_of(node, timeout_ms=20)
    with pytest.raises(KafkaConnectionError):
        await producer.produce(ONE, b"a")
    await producer.stop()


async def test_an_error_that_nobody_thought_of_leaves_nobody_waiting() -> None:
    node = Node(KeyError("planted"))
    producer = producer_of(node)
    waiting = [producer.produce(where, b"a") for where in (ONE, ONE, TWO)]
    async with asyncio.timeout(2):
        errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [KeyError] * 3
    with pytest.raises(ProduceFailed):
        await producer.produce(ONE, b"b")
    assert await producer.produce(THREE, b"c") == 0
    await producer.stop()


async def test_a_leader_is_waited_for() -> None:
    node = Node()
    node.leader = None
    producer = producer_of(node)
    landed = producer.produce(ONE, b"a")
    await asyncio.sleep(0.02)
    assert node.looks > 1 and not node.requests
    node.leader = 7
    assert await landed == 0
    await producer.stop()


async def test_an_end_leaves_nobody_waiting() -> None:
    node = Node()
    node.held.clear()
    producer = producer_of(node)
    waiting = [producer.produce(where, b"a") for where in (ONE, ONE, TWO)]
    await asyncio.sleep(0.01)
    await producer.stop()
    assert all(isinstance(error, ProduceFailed) for error in await asyncio.gather(*waiting, return_exceptions=True))
    with pytest.raises(ProduceFailed):
        await producer.produce(THREE, b"a")


async def test_who_is_cancelled_leaves_his_batch_to_land_before_the_next() -> None:
    node = Node()
    node.held.clear()
    appender = Appender("nowhere:1")
    appender._producer = producer_of(node)
    first = asyncio.ensure_future(appender.append(ONE, [(None, b"a", [])]))
    await asyncio.sleep(0.01)
    first.cancel()
    second = asyncio.ensure_future(appender.append(ONE, [(None, b"b", [])]))
    await asyncio.sleep(0.01)
    assert len(node.requests) == 1
    node.held.set()
    assert await second == [1]
    assert [len(sent) for sent in node.requests] == [1, 1]
    await appender.stop()


async def test_a_failure_is_told_as_one_of_appending() -> None:
    appender = Appender("nowhere:1")
    appender._producer = producer_of(Node({ONE: OutOfOrderSequenceNumber.errno}))
    for _ in range(2):
        with pytest.raises(AppendFailed):
            await appender.append(ONE, [(None, b"a", [])])
    await appender.stop()


async def test_a_right_to_write_that_is_missing_is_named() -> None:
    appender = Appender("nowhere:1")
    appender._producer = producer_of(Node({ONE: TopicAuthorizationFailedError.errno}))
    with pytest.raises(AppendFailed, match=r"no right to WRITE on the topic log$"):
        await appender.append(ONE, [(None, b"a", [])])
    await appender.stop()


async def test_who_may_write_nowhere_hears_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Guarded(Node):
        asked = 0

        async def bootstrap(self) -> None: ...

        def get_random_node(self) -> int:
            return 7

        async def send(self, _: int, request: Any) -> Any:
            self.asked += 1
            return SimpleNamespace(error_code=ClusterAuthorizationFailedError.errno)

    producer, node = producer_of(Node()), Guarded()
    producer.client = node
    with pytest.raises(NotLetIn, match="no right to WRITE on any topic"):
        await producer.start()
    assert node.asked == 1
