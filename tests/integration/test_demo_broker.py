"""The demo's broker keeps 5 MiB of a partition: once that is full, each batch that comes deletes one."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.structs import TopicPartition

from feed.backfill.past import LogCut
from feed.demo.broker import DemoBroker
from feed.follow.places import LogPlace, OutOfRange, place_of, records
from feed.gateway.backfill import FeedLogs
from feed.kafka.append import Appender
from feed.wire.record import Record, headers_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

LOG = TopicPartition("feed.x", 0)
RECORD_BYTES = 20_000
FULL_RECORDS = 400
FLOOR_BACK = 20


class Growing:
    """A feed log that one record after the other is added to."""

    def __init__(self, appender: Appender) -> None:
        self.end = 0
        self._appender = appender

    async def add(self) -> None:
        value = b"[]" + b" " * RECORD_BYTES
        floor, seq = max(0, self.end - FLOOR_BACK), self.end
        record = Record(
            source="x/0@a",
            after=seq - 1,
            first=seq,
            last=seq,
            partitions=1,
            version="1.x",
            floor=floor,
            since=-1,
            end=seq + 1,
            value=value,
        )
        await self._appender.append(LOG, [(None, value, headers_of(record))])
        self.end += 1

    async def for_ever(self) -> None:
        while True:
            await self.add()
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("cut", [LogCut(source="x/0@a", mark=3), LogCut(time=5), LogCut()])
async def test_a_place_is_found_in_a_log_that_forgets_all_the_time(cut: LogCut) -> None:
    with DemoBroker() as broker:
        broker.make_topics([LOG.topic])
        appender = Appender(broker.address)
        await appender.start()
        logs = FeedLogs(broker.address, {"x": LOG.topic})
        growing = Growing(appender)
        for _ in range(FULL_RECORDS):
            await growing.add()
        log = await logs.log("x/0")
        assert log is not None
        begin, end = await log.bounds()
        assert 0 < begin < end == FULL_RECORDS
        with pytest.raises(OutOfRange):
            await log.page(begin - 1)
        task = asyncio.create_task(growing.for_ever())
        try:
            for _ in range(5):
                place = await place_of(log, cut)
                assert isinstance(place, LogPlace)
                assert place.broken is not cut.at_end
                begin, end = await log.bounds()
                assert begin - FULL_RECORDS < place.start <= end
            # what leaves half of it alone can be read before it is gone
            place = await place_of(log, cut, spare=0.5)
            assert [record async for record in records(log, place.start, place.start + 1)] or place.start >= end
        finally:
            task.cancel()
            await asyncio.wait([task])
            await logs.stop()
            await appender.stop()
