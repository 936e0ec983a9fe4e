"""Incarnations whose writer is gone before its state is whole: the next one, and what gateways show of both."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import google_crc32c
import pytest
from msgspec.structs import replace

from feed.channels.hub import Hub, HubSettings
from feed.channels.steps import whole
from feed.feedlog.writer import Ahead, Opening, Restored, Round, Writer
from feed.follow.followed import FollowedLog, Patience
from feed.normalizer.plan import Bounds, plan_for
from feed.runtime.throttle import ThrottledLog
from feed.venues.source import Source
from feed.venues.symbol import Rules, Tick
from feed.venues.table import venue
from feed.wire.record import Record, headers_of
from tests.feed.venues.playing import T0

pytestmark = pytest.mark.anyio
TICKS = [
    b'{"channel":"quotes","data":{"bid_price":"10","bid_size":"1","ask_price":"11","ask_size":"1"}}',
    b'{"channel":"book","snapshot":true,"data":{"bids":[["10","1"]],"asks":[["11","1"]]}}',
    b'{"channel":"book","data":{"bids":[["9","1"]],"asks":[]}}',
]
SYMBOLS = ("X", "Y")


def tick(seq: int) -> Tick:
    return Tick(seq, SYMBOLS[seq // len(TICKS)], TICKS[seq % len(TICKS)], T0 + seq, T0 + seq)


COUNT = len(SYMBOLS) * len(TICKS)


class Log:
    """A feed log in memory, over ticks that are all there."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def crc(self, seq: int) -> int | None:
        return int(google_crc32c.value(tick(seq).value)) if seq < COUNT else None

    async def first_of_epoch_after(self, *_: int) -> int | None:
        return None

    def add(self, writer: Writer, records: Sequence[Record], die_after: int | None = None) -> None:
        """Appends them; `die_after`: the writer is gone after so many, and hears of none."""
        begin = len(self.records)
        self.records += [replace(one, offset=begin + number) for number, one in enumerate(records[:die_after])]
        if die_after is None:
            writer.acked(list(range(begin, len(self.records))))

    async def take_up(self, version: str, source: str) -> tuple[Writer, list[Record]]:
        """The next writer, and what it has to write first: a new incarnation, or nothing."""
        restored = Restored()
        for record in self.records[self.records[-1].floor if self.records else 0 :]:
            restored.read(record, 0)
        plan = await plan_for(restored, Bounds(0, COUNT, 1), version, self, whole=True)
        last = restored.last
        machine = Source(venue("acme"), plan.source or source, Rules())
        if last is not None:
            machine.restore(restored.checkpoints())
            for seq in range(last.since + 1, plan.pos + 1):
                machine.apply(tick(seq))
        machine.wake_all()
        machine.take()
        writer = Writer(
            machine,
            source=plan.source or source,
            pos=plan.pos,
            crc=-1 if last is None else last.crc,
            version=version,
            partitions=1,
            anchor=last.offset if plan.source and last is not None else len(self.records),
            keyframe_ratio=1.0,
            round_=Round(ms=3_600_000, least_ms=1000),
        )
        if last is not None:
            writer.take_up(restored.ages(0), last.floor, 0)
        if plan.source:
            return writer, []
        opening = Opening(ends=plan.ends, carries=plan.carries, missing=plan.missing)
        return writer, [writer.open(opening, COUNT), *(writer.everything(0) if plan.carries else [])]


class Gateway:
    """What has read a log from some offset on."""

    def __init__(self, start: int) -> None:
        self.hub = Hub(HubSettings())
        stream: Any = SimpleNamespace(waits=SimpleNamespace(waited=lambda *_: 0.0), taken=0, foreign=0)
        self.log = FollowedLog("feed.acme/0", stream, start, start, Patience(2, 60, 2), 0.0)
        self.read_to = start

    def read(self, records: Sequence[Record]) -> None:
        raws: Any = [
            SimpleNamespace(offset=record.offset, value=record.value, headers=headers_of(record))
            for record in records[self.read_to :]
        ]
        self.read_to = len(records)
        self.log.read(raws, self.hub, 1.0, lambda *_: None, None, ThrottledLog(logging.getLogger("feed.follower")))
        self.hub.flush(T0)

    def shows(self) -> list[bytes | None]:
        found = [whole(self.hub.snapshot(kind, f"ACME:{name}")) for name in SYMBOLS for kind in ("quotes", "book")]
        return [None if one is None else b"".join(one).partition(b'"data":')[2] for one in found]


@pytest.mark.parametrize("kills", [1, 2])
@pytest.mark.parametrize("written", range(1, 2 * 2 + 1))
async def test_who_opens_after_a_writer_that_was_killed_writes_all_states(written: int, kills: int) -> None:
    """`written`: so many records of the new incarnation are in the log, the one that opens it among them."""
    log = Log()
    first, opening = await log.take_up("2.old", "acme/0@a")
    log.add(first, opening)
    for seq in range(COUNT):
        log.add(first, first.step([tick(seq)], Ahead(seq + 1, seq + 1), seq * 5000).records)
    follows = Gateway(0)
    follows.read(log.records)
    wanted = follows.shows()
    assert None not in wanted
    for number in range(kills):
        killed, opening = await log.take_up("2.new", f"acme/0@{number}")
        log.add(killed, opening, written)
        follows.read(log.records)
    last, opening = await log.take_up("2.new", "acme/0@z")
    log.add(last, opening)
    for second in range(3):
        log.add(last, last.alive(Ahead(COUNT, COUNT), second * 1000).records)
        follows.read(log.records)
    late = Gateway(log.records[-1].floor)
    late.read(log.records)
    for gateway in (follows, late):
        assert gateway.shows() == wanted
        assert gateway.log.verdict(1.1).reason is None
        assert list(gateway.hub.sources) == [last.source]
        assert {listing.owner.name for listing in gateway.hub.names.values()} == {last.source}


def record(source: str, offset: int, **more: Any) -> Record:
    fields = {"after": -1, "first": -1, "last": -1, "first_crc": -1, "crc": -1, "partitions": 1, "version": "2.a"}
    return Record(source=source, offset=offset, **{"kind": "data", "floor": 0, "since": -1, "end": 0, **fields, **more})


def read_again(gateway: Gateway, records: Sequence[Record]) -> Gateway:
    """The log is followed anew, from records on that do not follow those that were read."""
    again = Gateway(0)
    again.hub = gateway.hub
    again.log.go_on_from(gateway.log)
    again.read(records)
    return again


@pytest.mark.parametrize("between", [False, True])
def test_a_source_whose_end_was_not_read_is_forgotten(between: bool) -> None:
    """`between`: one began and ended while nothing was read."""
    gateway = Gateway(0)
    gateway.read([record("acme/0@a", 0, after=-1, first=0, last=3, end=4)])
    assert list(gateway.hub.sources) == ["acme/0@a"]
    opens = record("acme/0@c", 7, kind="source", ends="acme/0@b" if between else "acme/0@a", last=3)
    again = read_again(gateway, [opens, record("acme/0@c", 8, after=3, first=4, last=5, end=6)])
    assert list(again.hub.sources) == ["acme/0@c"]
    source = again.hub.sources["acme/0@c"]
    assert (source.ended, source.complete) == ("acme/0@a", False)
    assert again.hub.followed(frozenset("*")) == {source}
    # its own beginning read again ends nothing
    assert list(read_again(again, [opens, record("acme/0@c", 8, after=3, first=4, last=5, end=6)]).hub.sources) == [
        "acme/0@c"
    ]


def test_a_source_that_never_had_a_tick_is_not_silent() -> None:
    def alive(end: int) -> Record:
        return record("acme/0@a", 0, end=end)

    never, quiet = Gateway(0), Gateway(0)
    never.read([alive(0)])
    quiet.read([alive(4)])
    for gateway, reason in ((never, None), (quiet, "silent")):
        gateway.log.record_at = 70.0
        assert gateway.log.verdict(70.0).reason == reason
        again = FollowedLog("feed.acme/0", gateway.log.stream, 0, 0, Patience(2, 60, 2), 70.0)
        again.go_on_from(gateway.log)
        assert again.verdict(70.0).reason == reason
    never.read_to = 0
    never.read([replace(alive(1), after=-1, first=0, last=0)])
    assert never.log.verdict(2.0).reason is None
    never.log.record_at = 70.0
    assert never.log.verdict(70.0).reason == "silent"
