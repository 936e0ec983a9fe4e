"""A tick that is refused as a whole: what it may have held of its symbol is in doubt, and no more than that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import pytest

from feed.venues.legible import leading
from feed.venues.symbol import Tick
from feed.venues.tick import NEVER_WRITTEN
from tests.feed.venues.playing import Feeder, doubts

encode = msgspec.json.encode
BOTH = ["book", "trades"]


class Desk(NamedTuple):
    """A venue, its symbol, what makes its book live, and a frame of each kind."""

    venue: str
    key: str
    begin: list[Any]
    book: Any
    trade: Any
    quote: Any
    other: Any


CANONICAL = Desk(
    "anyone",
    "C",
    [{"channel": "book", "data": {"bids": [["5", "5"]], "asks": []}, "snapshot": True}],
    {"channel": "book", "data": {"bids": [["6", "1"]], "asks": []}},
    {
        "channel": "trades",
        "data": [{"price": "1", "size": "1", "side": None, "trade_id": "7", "ts_event": None}],
    },
    {"channel": "quotes", "data": {"bid_price": "1", "bid_size": "1", "ask_price": None, "ask_size": None}},
    {"channel": "status", "data": {"action": "trading", "reason": None}},
)
COINBASE = Desk(
    "coinbase",
    "A-USD",
    [{"type": "snapshot", "product_id": "A-USD", "bids": [["5", "5"]], "asks": []}],
    {"type": "l2update", "product_id": "A-USD", "changes": [["buy", "6", "1"]]},
    {"type": "match", "product_id": "A-USD", "trade_id": 7, "side": "buy", "size": "1", "price": "1"},
    {"type": "ticker", "product_id": "A-USD", "best_bid": "1", "best_ask": "2", "more": []},
    {"type": "heartbeat", "product_id": "A-USD", "more": []},
)
ADVANCED = Desk(
    "coinbase",
    "A-USD",
    COINBASE.begin,
    {"channel": "l2_data", "events": [{"type": "update", "product_id": "A-USD", "updates": []}]},
    {"channel": "market_trades", "events": [{"type": "update", "trades": [{"product_id": "A-USD"}]}]},
    {"channel": "ticker", "events": [{"tickers": [{"product_id": "A-USD", "best_bid": "1"}]}]},
    {"channel": "candles", "events": [{"candles": [{"product_id": "A-USD"}]}]},
)
KRAKEN_V1 = Desk(
    "kraken",
    "A/USD",
    [[1, {"as": [["5", "5", "1618678142.5"]], "bs": []}, "book-10", "A/USD"]],
    [1, {"a": [["6", "1", "1618678142.5"]], "c": "1"}, "book-10", "A/USD"],
    [1, [["1", "1", "1618678142.5", "b", "l", ""]], "trade", "A/USD"],
    [1, {"a": ["1", 1, "1"], "b": ["1", 1, "1"]}, "ticker", "A/USD"],
    [1, ["1", "2"], "spread", "A/USD"],
)
KRAKEN_V2 = Desk(
    "kraken",
    "A/USD",
    [
        {
            "channel": "book",
            "type": "snapshot",
            "data": [{"symbol": "A/USD", "bids": [{"price": 5, "qty": 5}], "asks": []}],
        }
    ],
    {"channel": "book", "type": "update", "data": [{"symbol": "A/USD", "bids": [], "asks": []}]},
    {"channel": "trade", "type": "update", "data": [{"symbol": "A/USD", "side": "buy"}]},
    {"channel": "ticker", "type": "update", "data": [{"symbol": "A/USD"}]},
    {"channel": "ohlc", "type": "update", "data": [{"symbol": "A/USD"}]},
)


def binance(stream: str, **data: Any) -> dict[str, Any]:
    return {"stream": stream, "data": {"s": "AUSD", **data}}


BINANCE = Desk(
    "binance",
    "AUSD",
    [{"lastUpdateId": 5, "bids": [["5", "5"]], "asks": []}, binance("ausd@depth", U=6, u=6, b=[], a=[])],
    binance("ausd@depth", e="depthUpdate", U=7, u=8, b=[["6", "1"]], a=[]),
    binance("ausd@trade", e="trade", t=7, p="1", q="1", m=True),
    binance("ausd@bookTicker", u=8, b="1", B="1", a="2", A="1"),
    binance("ausd@kline_1m", e="kline", k={}),
)
RAW = BINANCE._replace(**{name: getattr(BINANCE, name)["data"] for name in ("book", "trade", "other")})
DESKS = {
    "canonical": CANONICAL,
    "exchange": COINBASE,
    "advanced": ADVANCED,
    "kraken v1": KRAKEN_V1,
    "kraken v2": KRAKEN_V2,
    "combined": BINANCE,
    "raw": RAW._replace(book={"e": "depthUpdate", **RAW.book}, trade={"e": "trade", **RAW.trade}),
}
CHANNELS = {"book": ["book"], "trade": ["trades"], "quote": [], "other": []}
FRAMES = pytest.mark.parametrize("kind", CHANNELS)
VENUES = pytest.mark.parametrize("name", DESKS)


def begun(desk: Desk) -> Feeder:
    """Its book is live."""
    feed = Feeder(desk.venue, desk.key)
    for frame in desk.begin:
        feed(frame, request="depth" if "lastUpdateId" in frame else None)
    assert feed.played.bad == []
    assert feed.book() is not None
    return feed


HOUR = 3600 * 10**9


@VENUES
@FRAMES
@pytest.mark.parametrize("odd", [lambda now: now + HOUR, lambda now: now // 10**9, lambda now: -1])
def test_a_good_frame_with_a_bad_time_puts_its_channel_in_doubt(
    name: str, kind: str, odd: Callable[[int], int]
) -> None:
    desk = DESKS[name]
    feed = begun(desk)
    book, clock = feed.book(), feed.played.source.clock
    feed.play(Tick(feed.seq, desk.key, encode(getattr(desk, kind)), odd(feed.now), feed.now))
    assert len(feed.played.bad) == 1
    assert doubts(feed.played.source, desk.key) == CHANNELS[kind]
    assert (feed.book(), feed.played.source.clock) == (book, clock)
    states = [(state.state, state.reason, state.seq) for state in feed.folded.states]
    assert states == ([("stale", "gap", feed.seq - 1)] if kind == "book" else [])


def test_a_time_that_is_not_believed_is_a_bad_one() -> None:
    feed = begun(CANONICAL)
    feed.play(Tick(feed.seq, "C", encode(CANONICAL.book), feed.now + 24 * 30 * HOUR, NEVER_WRITTEN))
    assert len(feed.played.bad) == 1
    assert [(state.state, int(state.since or 0)) for state in feed.folded.states] == [("stale", feed.now)]


@VENUES
@FRAMES
def test_a_cut_frame_puts_in_doubt_what_it_may_have_held(name: str, kind: str) -> None:
    desk = DESKS[name]
    feed = begun(desk)
    feed(encode(getattr(desk, kind))[:-1])
    assert len(feed.played.bad) == 1
    # v1 of Kraken says only at the end what a frame is
    wanted = BOTH if name == "kraken v1" else CHANNELS[kind]
    assert doubts(feed.played.source, desk.key) == wanted
    feed(b"{", b"")
    assert doubts(feed.played.source, desk.key) == BOTH


@VENUES
def test_of_what_is_no_frame_at_all_book_and_trades_are_in_doubt(name: str) -> None:
    for value in (b"", b"\xff", b"[]", b"{}", b"null", b'"a', b'{"channel', b"[" * 100_000):
        feed = begun(DESKS[name])
        feed(value)
        assert len(feed.played.bad) == 1
        assert doubts(feed.played.source, DESKS[name].key) == BOTH


def test_a_spoiled_array_says_at_its_end_what_it_was() -> None:
    for kind, wanted in CHANNELS.items():
        feed = begun(KRAKEN_V1)
        feed(encode(getattr(KRAKEN_V1, kind)).replace(b"[1,", b"[1,,"))
        assert doubts(feed.played.source, KRAKEN_V1.key) == wanted


def test_the_next_trades_have_a_gap_and_a_snapshot_mends_the_book() -> None:
    feed = begun(CANONICAL)(CANONICAL.trade)
    feed(encode(CANONICAL.book)[:-3], encode(CANONICAL.trade)[:-3])
    assert [(state.state, state.reason, state.seq) for state in feed.folded.states] == [("stale", "gap", 2)]
    feed(CANONICAL.book)  # of no use before a snapshot
    assert feed.book() == ({"5": "5"}, {})
    next_trade = {"channel": "trades", "data": [{**CANONICAL.trade["data"][0], "trade_id": "8"}]}
    feed(next_trade, CANONICAL.begin[0], CANONICAL.book)
    assert [(gap.reason, gap.lost, gap.seq) for gap in feed.folded.gaps] == [("venue", True, 1)]
    assert [state.state for state in feed.folded.states] == ["stale", "ok"]
    assert feed.book() == ({"5": "5", "6": "1"}, {})


@pytest.mark.parametrize("desk", [KRAKEN_V1, KRAKEN_V2], ids=["v1", "v2"])
def test_no_change_of_a_book_in_doubt_is_taken(desk: Desk) -> None:
    feed = begun(desk)(b"")
    book = feed.book()
    if desk is KRAKEN_V1:
        feed([1, {"a": [["6", "1", "1618678142.5"]]}, "book-10", desk.key])
    else:
        feed({**desk.book, "data": [{"symbol": desk.key, "bids": [], "asks": [{"price": 6, "qty": 1}]}]})
    assert feed.book() == book
    assert feed.played.source.counts.changes_lost == 1
    feed(desk.begin[0])
    assert [state.state for state in feed.folded.states] == ["stale", "ok"]


def test_an_answer_that_is_refused_says_nothing_that_is_missed() -> None:
    feed = begun(BINANCE)
    feed(b'{"lastUpdateId":9,"bids":[["1","x"]],"asks":[]}', request="depth")
    feed(b'{"lastUpdateId":9,"bids":[[', request="depth")
    assert len(feed.played.bad) == 2
    assert doubts(feed.played.source, BINANCE.key) == []


def test_trades_that_were_subscribed_again_at_an_unknown_time_are_in_doubt() -> None:
    answer = {
        "channelName": "trade",
        "event": "subscriptionStatus",
        "pair": "A/USD",
        "status": "subscribed",
        "subscription": {"name": "trade"},
    }
    for value, time in ((encode(answer), -1), (encode(answer)[:-1], 0)):
        feed = begun(KRAKEN_V1)
        feed.play(Tick(feed.seq, "A/USD", value, time or feed.now, feed.now))
        assert len(feed.played.bad) == 1
        assert doubts(feed.played.source, "A/USD") == ["trades"]


def test_a_frame_of_several_symbols_puts_those_in_doubt_that_its_header_names() -> None:
    feed = Feeder("coinbase", "A")
    for name in "AB":
        feed.key = name
        feed({**COINBASE.begin[0], "product_id": name})
    frame = encode({"channel": "l2_data", "events": [{"type": "update", "product_id": name} for name in "AB"]})
    for value, symbols in ((frame[:-1], b'["A"]'), (frame[:-1], None), (frame[:-1], b'["B"')):
        feed.play(Tick(feed.seq, "", value, feed.now, feed.now, None, symbols))
        assert (doubts(feed.played.source, "A"), doubts(feed.played.source, "B")) == (["book"], [])
    feed.play(Tick(feed.seq, "", frame, -1, feed.now, None, b'["B","C","B"]'))
    assert doubts(feed.played.source, "B") == ["book"]
    assert len(feed.played.bad) == 4


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (b"", {}),
        (b"{", {}),
        (b'{"a":"b"', {}),
        (b'{"a":"b",', {"a": "b"}),
        (b' { "a" : "b" , "n": 5,"none":null,"c":{"channel":"book",', {"a": "b", "n": "5"}),
        (b'{"c":{"channel":"book"},"channel":"quotes",', {}),
        (b'{"a":"\\"","channel":"quotes",', {}),
        (b'{"a":"\xff",', {}),
        (b'{"a":1e5x,', {}),
        (b'[{"a":"b",', {}),
    ],
)
def test_plain_members_before_anything_else_are_legible(frame: bytes, wanted: dict[str, str]) -> None:
    assert leading(frame) == wanted
