"""A Kafka record as a tick: whatever stands in its key and headers, it is read, and bad at the most."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.errors import BadTick
from feed.normalizer.ticks import tick_of
from feed.venues.source import Source
from feed.venues.symbol import Rules
from feed.venues.table import NAMES, venue
from feed.venues.tick import NEVER_WRITTEN, NO_TIME

MS = 1_700_000_000_000
HEADER_NAMES = st.one_of(st.sampled_from(["ts_recv", "request", "symbols"]), st.text(max_size=3))
VALUES = st.one_of(
    st.none(),
    st.binary(max_size=8),
    st.sampled_from([b"9" * 5000, b"-1", b"%d000000" % MS, b'["A"]', b"depth", b"\xff"]),
)


class Record(NamedTuple):
    """What Kafka has of a record."""

    headers: Any = ()
    key: bytes | None = b"A"
    value: bytes | None = b"{}"
    offset: int = 5
    timestamp: int = MS
    timestamp_type: int | None = 1


def test_what_a_record_holds() -> None:
    headers = [("ts_recv", b"%d000005" % MS), ("request", b"https://x/depth"), ("symbols", b'["A"]'), ("other", b"x")]
    tick = tick_of(Record(headers))  # type: ignore[arg-type]  # a fake
    assert (tick.seq, tick.key, tick.value, tick.ts_recv) == (5, "A", b"{}", MS * 10**6 + 5)
    assert (tick.request, tick.symbols, tick.ts_kafka) == ("https://x/depth", b'["A"]', MS * 10**6)
    bare = tick_of(Record(key=None, value=None))  # type: ignore[arg-type]  # a fake
    assert (bare.key, bare.value, bare.ts_recv, bare.request, bare.symbols) == ("", b"", MS * 10**6, None, None)


def test_a_header_may_stand_for_the_key() -> None:
    headers = [("symbol", b"B"), ("other", b"x")]
    keys = [
        tick_of(Record(found, key), "symbol").key  # type: ignore[arg-type]  # a fake
        for found, key in ((headers, b"A"), (headers, None), ([], b"A"), ([("symbol", None)], b"A"))
    ]
    assert keys == ["B", "B", "", ""]
    assert tick_of(Record([("symbol", b"\xff")], None), "symbol").key == "\0"  # type: ignore[arg-type]  # a fake


@pytest.mark.parametrize("name", ["ts_recv", "request", "symbols", "anything"])
@pytest.mark.parametrize("value", [None, b"", b"\xff\xfe", b"9" * 5000])
def test_a_header_that_cannot_be_read_ends_nothing(name: str, value: bytes | None) -> None:
    for key in (b"A", None):
        tick = tick_of(Record([(name, value)], key))  # type: ignore[arg-type]  # a fake
        source = Source(venue("binance"), "binance/0@a", Rules())
        try:
            source.apply(tick)
        except BadTick as error:
            assert str(error)  # noqa: PT017  # it may be bad, and nothing else


@pytest.mark.parametrize("name", [*NAMES, "anyone"])
@given(
    headers=st.lists(st.tuples(HEADER_NAMES, VALUES), max_size=4),
    key=st.one_of(st.none(), st.binary(max_size=4)),
    value=st.sampled_from([None, b"{}", b'{"lastUpdateId":1,"bids":[],"asks":[]}', b'{"type":"status","products":[]}']),
    timestamp=st.sampled_from([-1, 0, MS, 2**62]),
)
def test_any_record_is_a_tick(name: str, headers: Any, key: bytes | None, value: bytes | None, timestamp: int) -> None:
    tick = tick_of(Record(headers, key, value, 0, timestamp))  # type: ignore[arg-type]  # a fake
    source = Source(venue(name), "source", Rules())
    try:
        source.apply(tick)
    except BadTick as error:
        assert str(error)  # noqa: PT017  # it may be bad, and nothing else
    msgspec.json.encode(source.take())


@pytest.mark.parametrize(
    ("timestamp", "headers", "ts_recv", "bounded"),
    [
        (1_700_000_000_000, (), 1_700_000_000_000 * 1_000_000, True),
        (1_700_000_000_000, (("ts_recv", b"17"),), 17, True),
        (-1, (("ts_recv", b"1700000000000000000"),), 1_700_000_000_000_000_000, False),
        (-1, (), NO_TIME, False),
        (-1, (("ts_recv", b"soon"),), -1, False),
    ],
)
def test_when_a_tick_came(timestamp: int, headers: tuple[tuple[str, bytes], ...], ts_recv: int, bounded: bool) -> None:
    tick = tick_of(Record(headers, timestamp=timestamp))  # type: ignore[arg-type]  # a fake
    assert tick.ts_recv == ts_recv
    assert (tick.ts_kafka == timestamp * 1_000_000) is bounded
    assert bounded or tick.ts_kafka == NEVER_WRITTEN


@pytest.mark.parametrize("late_s", [120, 86_400 * 365])
@pytest.mark.parametrize("stamp", [0, None])
def test_a_producer_may_stamp_the_time_of_the_event(stamp: int | None, late_s: int) -> None:
    value = b'{"channel":"trades","data":[{"price":"1","size":"2","side":null,"trade_id":null,"ts_event":null}]}'
    received = [("ts_recv", b"%d" % ((MS + late_s * 1000) * 1_000_000))]
    source = Source(venue("anyone"), "anyone/0@a", Rules())
    with pytest.raises(BadTick, match="wanted at most a little after"):
        source.apply(tick_of(Record(received, value=value)))  # type: ignore[arg-type]  # a fake
    assert source.apply(tick_of(Record(received, value=value, offset=6, timestamp_type=stamp))) == ()  # type: ignore[arg-type]
    assert len(source.take()) > 0
