"""Publishing on a real Kafka: what a capture holds lies in the tick topic, in its order, with its times."""

from __future__ import annotations

import gzip
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka.structs import TopicPartition

from feed.errors import Unreachable
from feed.kafka.cluster import Cluster, Raw
from feed.kafka.partitioner import partition_of
from feed.venues.table import venue
from replay.captures import read
from replay.cli import _lines_of
from replay.pacing import Speed
from replay.publish import Progress, Target, publish

pytestmark = pytest.mark.anyio

PARTITIONS = 3


def _target(bootstrap: str, topic: str) -> Target:
    return Target(bootstrap, topic, PARTITIONS, {"max.message.bytes": str(16 << 20)}, "none")


async def _publish(files: list[Path], venue_name: str, target: Target, speed: Speed = "max") -> Progress:
    return await publish(read(files), venue(venue_name), target, speed=speed, symbol=None, tell=lambda _: None)


async def _records(bootstrap: str, topic: str) -> dict[int, list[Raw]]:
    found: dict[int, list[Raw]] = defaultdict(list)
    async with Cluster(bootstrap) as cluster:
        assert await cluster.partitions(topic) == PARTITIONS
        for number in range(PARTITIONS):
            partition = TopicPartition(topic, number)
            begin, end = await cluster.offsets(partition)
            async for page in cluster.read(partition, begin, end):
                found[number] += page
    return found


async def test_a_capture_lies_in_its_topic_as_it_was_received(
    kafka: str, fresh: Callable[[str], str], data_dir: Path
) -> None:
    topic = fresh("ticks.coinbase")
    file = data_dir / "coinbase" / "exchange_5products_20210417.ws.cf.gz"
    done = await _publish([file], "coinbase", _target(kafka, topic))
    captured = list(read([file]))
    expected: dict[bytes | None, list[tuple[bytes, bytes]]] = defaultdict(list)
    for line in captured:
        for key in venue("coinbase").keys(line.frame):
            expected[key.encode()].append((line.frame, b"%d" % (line.ts_recv or 0)))
    records = await _records(kafka, topic)
    for key, frames in expected.items():
        assert key is not None
        own = [r for r in records[partition_of(key, PARTITIONS)] if r.key == key]
        assert [(r.value, dict(r.headers)["ts_recv"]) for r in own] == frames
    assert done.frames == len(captured)
    assert done.ticks == sum(len(found) for found in records.values())
    assert done.unreadable == 0


async def test_a_topic_that_is_there_keeps_its_partitions(
    kafka: str, fresh: Callable[[str], str], tmp_path: Path
) -> None:
    topic = fresh("ticks.toy")
    async with Cluster(kafka) as cluster:
        await cluster.make_topics({topic: PARTITIONS}, {})
    ticks = tmp_path / "ticks.ndjson"
    ticks.write_text('{"symbol":"A"}\n')
    await _publish([ticks], "toy", _target(kafka, topic)._replace(partitions=7))
    assert sum(len(found) for found in (await _records(kafka, topic)).values()) == 1


async def test_nobody_there_is_unreachable(tmp_path: Path) -> None:
    ticks = tmp_path / "ticks.ndjson"
    ticks.write_text("{}\n")
    with pytest.raises(Unreachable):
        await _publish([ticks], "toy", _target("127.0.0.1:1", "ticks.toy"))


def test_lines_are_counted_gzip_or_not(tmp_path: Path) -> None:
    plain, packed, torn = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    plain.write_bytes(b"1\n2\n")
    packed.write_bytes(gzip.compress(b"1\n2\n3\n"))
    torn.write_bytes(gzip.compress(b"1\n" * 1000)[:20])
    assert _lines_of([plain, packed, torn, tmp_path / "none"]) == 5
