"""Where a captured frame goes: keys, partitions, headers, batches."""

from __future__ import annotations

import json
import time
from typing import Any, NamedTuple

import pytest
from aiokafka.partitioner import DefaultPartitioner

from feed.errors import BadTick
from feed.kafka.partitioner import partition_of
from replay.sinks import BATCH_TICKS_MAX, TickTopic

pytestmark = pytest.mark.anyio


class Line(NamedTuple):
    ts_recv: int | None
    frame: bytes
    request: str | None = None
    symbol: str | None = None


class Log:
    """Takes what an appender would send."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, list[tuple[bytes | None, bytes, list[tuple[str, bytes]]]]]] = []

    async def append(self, partition: Any, records: Any) -> list[int]:
        self.batches.append((partition.partition, list(records)))
        return []

    @property
    def records(self) -> list[tuple[int, bytes | None, bytes, dict[str, bytes]]]:
        return [(number, *r[:2], dict(r[2])) for number, batch in self.batches for r in batch]


def _keys(frame: bytes) -> list[str]:
    try:
        found = json.loads(frame)
    except ValueError as error:
        raise BadTick("no json") from error
    assert isinstance(found, list)
    return found


def _topic(symbol: str | None = None, partitions: int = 4) -> tuple[Log, TickTopic]:
    log = Log()
    return log, TickTopic(log, "ticks.toy", partitions, _keys, symbol)  # type: ignore[arg-type]  # a fake


def test_partitions_are_those_of_kafkas_own_clients() -> None:
    choose = DefaultPartitioner()
    for key in (b"BTCUSDT", b"XBT/USD", b"", b"ETH-USD", "é".encode()):
        assert partition_of(key, 7) == choose(key, list(range(7)), list(range(7)))


async def test_a_frame_goes_to_its_symbols_key_with_time_and_request() -> None:
    log, topic = _topic()
    topic.add(Line(17, b'["A"]'))
    topic.add(Line(None, b'["A"]', request="https://venue/depth"))
    await topic.flush()
    place = partition_of(b"A", 4)
    # what does not say when it came comes now
    first, second = log.records
    assert abs(int(second[3].pop("ts_recv")) - time.time_ns()) < 60_000_000_000
    assert [first, second] == [
        (place, b"A", b'["A"]', {"ts_recv": b"17"}),
        (place, b"A", b'["A"]', {"request": b"https://venue/depth"}),
    ]


async def test_a_frame_of_several_symbols_goes_once_to_each_partition_that_has_some_of_them() -> None:
    log, topic = _topic()
    names = [f"S{number}" for number in range(700)]
    topic.add(Line(1, json.dumps(names).encode()))
    topic.add(Line(2, b'["A","B"]', request="rest"))
    await topic.flush()
    many, few = ([r for r in log.records if r[3]["ts_recv"] == time] for time in (b"1", b"2"))
    assert [(number, key) for number, key, *_ in many] == [(number, None) for number in range(4)]
    assert sum(len(record[2]) for record in many) == 4 * len(json.dumps(names))
    for number, _, _, headers in many:
        own = json.loads(headers["symbols"])
        assert own == [name for name in names if partition_of(name.encode(), 4) == number]
        assert headers["ts_recv"] == b"1"
    assert sorted(name for record in many for name in json.loads(record[3]["symbols"])) == sorted(names)
    assert [record[3]["request"] for record in few] == [b"rest"] * len(few)
    assert (topic.frames, topic.ticks) == (2, 4 + len(few))


async def test_a_frame_of_the_whole_venue_goes_to_every_partition() -> None:
    log, topic = _topic()
    topic.add(Line(2, b"[]"))
    await topic.flush()
    assert [(record[0], record[1], record[3]) for record in log.records] == [
        (number, None, {"ts_recv": b"2"}) for number in range(4)
    ]


async def test_a_frame_that_nobody_can_read_is_sent_all_the_same_to_end_as_a_dead_letter() -> None:
    log, topic = _topic()
    topic.add(Line(1, b"{"))
    await topic.flush()
    assert log.records == [(0, None, b"{", {"ts_recv": b"1"})]
    assert topic.unreadable == 1


async def test_the_symbol_of_the_file_or_the_command_names_what_does_not_name_itself() -> None:
    log, topic = _topic(symbol="GIVEN")
    topic.add(Line(1, b"{", request="rest"))
    topic.add(Line(1, b"{", request="rest", symbol="FILE"))
    topic.add(Line(1, b'["OWN"]'))
    topic.add(Line(1, b"[]"))
    topic.add(Line(1, b"{"))
    await topic.flush()
    assert sorted(record[1] or b"" for record in log.records) == [b"FILE", b"GIVEN", b"GIVEN", b"GIVEN", b"OWN"]


async def test_ticks_of_a_symbol_keep_their_order_over_batches() -> None:
    log, topic = _topic()
    for number in range(2 * BATCH_TICKS_MAX + 10):
        if topic.add(Line(number, b'["A"]')):
            await topic.send()
    await topic.flush()
    assert len(log.batches) == 3
    assert [int(record[3]["ts_recv"]) for record in log.records] == list(range(2 * BATCH_TICKS_MAX + 10))


async def test_large_frames_are_sent_before_many_are_gathered() -> None:
    _, topic = _topic()
    frame = json.dumps(["A" * 600_000]).encode()
    assert [topic.add(Line(1, frame)), topic.add(Line(2, frame))] == [False, True]
