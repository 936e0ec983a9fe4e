"""Our own tick: what it takes, agreed with its JSON Schema, and what it makes of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.errors import BadTick
from feed.venues import canonical
from feed.venues.source import Source
from feed.venues.symbol import Rules, Tick
from feed.venues.table import venue
from feed.wire.model import Instrument, Quote, Status, Trade
from tests.feed.venues.playing import Feeder, doubts, without_doubts
from tests.schemas.validation import faults

NAME = "ABC"
TIME = "1795467600131000000"
encode = msgspec.json.encode
TRADE = {"price": "67187.480", "size": "0.002140", "side": "buy", "trade_id": "7", "ts_event": TIME}
QUOTE = {"bid_price": "1.0", "bid_size": "2", "ask_price": None, "ask_size": None}
INSTRUMENT = {
    "venue": "x", "venue_symbol": NAME, "kind": None, "base": "A", "quote": "B", "tick_size": "0.010", "lot_size": None,
    "aliases": ["a"],
}  # fmt: skip


def made(channel: str, data: Any, **more: Any) -> dict[str, Any]:
    return {"channel": channel, "ts_event": TIME, "data": data, **more}


def book(bids: Any, asks: Any, **more: Any) -> dict[str, Any]:
    return made("book", {"bids": bids, "asks": asks}, **more)


GOOD = [
    made("trades", [TRADE]),
    made("trades", [{**TRADE, "side": None, "trade_id": None, "ts_event": None}], ts_event=None),
    made("quotes", QUOTE),
    book([["1.0", "2"]], [], snapshot=True),
    book([["1.0", "0"]], [["2", "1"]]),
    made("status", {"action": "halt", "reason": None}),
    made("instruments", INSTRUMENT),
    made("trades", [TRADE], symbol=NAME, more=1),
    made("trades", [{**TRADE, "price": "-37.630"}, {**TRADE, "price": "0", "trade_id": None}]),
    made("trades", [{**TRADE, "conditions": None, "exchange": None}, {**TRADE, "trade_id": "8", "conditions": []}]),
    made("trades", [{**TRADE, "conditions": ["@", "odd lot"] * 8, "exchange": "i" * 32}]),
    made("quotes", {**QUOTE, "bid_price": "-0.50", "ask_price": "0.0", "ask_size": "0"}),
    book([["-1.50", "2"], ["0", "1"]], [["-0.5", "0"]], snapshot=True),
]
GOOD += [
    made("trades", [{key: value for key, value in TRADE.items() if key in ("price", "size")}]),
    made("trades", [{**TRADE, "price": 1.5, "size": 2, "trade_id": 7, "ts_event": int(TIME)}], ts_event=int(TIME)),
    *(made("trades", [{**TRADE, "side": word}]) for word in ("BUY", "Sell", "b", "S")),
    made("trades", [{**TRADE, "price": -0.0, "ts_event": "2026-11-23T20:20:00.131+01:00"}]),
    made("quotes", {"bid_price": -1, "bid_size": 0}, ts_event="2026-11-23T19:20:00.000000001Z"),
    made("quotes", {"bid_price": 1.25}),
    made("quotes", {"ask_price": None}),
    book([[1, 2.5]], [["2", 3]], snapshot=True),
    {"channel": "book", "data": {"asks": [[1, 0]]}},
    made("status", {"action": "halt"}),
    made("instruments", {"venue": "x", "venue_symbol": NAME, "tick_size": 0.01}),
]
LAST = str(2**63 - 1)
GOOD += [
    made("quotes", QUOTE, ts_event=LAST),
    made("trades", [{**TRADE, "ts_event": LAST}], ts_event=None),
    made("status", {"action": "halt", "reason": "\u0001" * 1000}),
    made("instruments", {**INSTRUMENT, "venue": "v" * 64, "kind": "k" * 64, "aliases": ["é" * 64] * 16}),
]
BAD = [
    made("trades", [{**TRADE, "price": True}]),
    made("trades", [{**TRADE, "price": None}]),
    made("trades", [{**TRADE, "price": 10**20}]),
    made("trades", [{**TRADE, "size": 0}]),
    made("trades", [{**TRADE, "size": -0.5}]),
    made("trades", [{**TRADE, "trade_id": 7.5}]),
    made("trades", [{**TRADE, "trade_id": True}]),
    *(made("trades", [{**TRADE, "side": word}]) for word in ("bid", "ask", "", "buyer", 1, True)),
    made("trades", [{**TRADE, "ts_event": 1795467600}]),
    made("trades", [{**TRADE, "ts_event": 2**63}]),
    *(
        made("quotes", QUOTE, ts_event=time)
        for time in ("2026-11-23T19:20:00", "2026-11-23", "2026-11-23T19:20Z", "1989-12-31T23:59:59Z", "", True, 1.5)
    ),
    made("quotes", {}),
    made("quotes", {"bid_size": 1, "ask_price": 2}),
    made("quotes", {"bid_price": None, "bid_size": 1}),
    book([[1, 2]], None),
    made("book", {"bids": []}, snapshot=True),
    made("book", {}),
    made("status", {"reason": None}),
    made("instruments", {"venue": "x"}),
    made("quotes", QUOTE, ts_event=str(2**63)),
    made("quotes", QUOTE, ts_event="9999999999999999999"),
    made("quotes", QUOTE, ts_event="1" * 20),
    made("trades", [{**TRADE, "ts_event": str(2**63)}]),
    made("trades", [{**TRADE, "trade_id": "7" * 101}]),
    made("status", {"action": "halt", "reason": "x" * 1001}),
    made("instruments", {**INSTRUMENT, "aliases": ["a"] * 17}),
    made("instruments", {**INSTRUMENT, "aliases": ["a" * 65]}),
    *(
        made("instruments", {**INSTRUMENT, name: "a" * 65})
        for name in ("venue", "venue_symbol", "kind", "base", "quote")
    ),
    made("quotes", QUOTE, symbol="a" * 65),
    made("bars", []),
    made("trades", []),
    made("trades", [{**TRADE, "price": "--1"}]),
    made("trades", [{**TRADE, "price": "+1"}]),
    made("trades", [{**TRADE, "price": "-"}]),
    made("trades", [{**TRADE, "price": "-01"}]),
    made("trades", [{**TRADE, "price": "-1e5"}]),
    made("trades", [{**TRADE, "price": "- 1"}]),
    made("trades", [{**TRADE, "size": "-1"}]),
    made("quotes", {**QUOTE, "bid_size": "-1"}),
    made("trades", [{**TRADE, "size": "1e5"}]),
    made("trades", [{**TRADE, "ts_event": "2026-01-01"}]),
    made("trades", [{**TRADE, "conditions": ["a"] * 17}]),
    made("trades", [{**TRADE, "conditions": ["a" * 33]}]),
    made("trades", [{**TRADE, "conditions": [""]}]),
    made("trades", [{**TRADE, "conditions": [None]}]),
    made("trades", [{**TRADE, "conditions": "a"}]),
    made("trades", [{**TRADE, "exchange": ""}]),
    made("trades", [{**TRADE, "exchange": "i" * 33}]),
    made("trades", [{**TRADE, "exchange": 5}]),
    made("trades", [TRADE], ts_event=5),
    made("trades", [TRADE], ts_event="-5"),
    made("trades", [TRADE], snapshot=True),
    made("quotes", {**QUOTE, "bid_size": "NaN"}),
    made("quotes", [QUOTE]),
    book([["1"]], []),
    book([["1", "2", "3"]], []),
    book([["1", "-2"]], []),
    book([["01", "2"]], []),
    book([], [], snapshot="yes"),
    made("status", {"action": "open", "reason": None}),
    made("instruments", {**INSTRUMENT, "tick_size": "1e-5"}),
    {"ts_event": TIME, "data": []},
    {"channel": "book"},
    [],
]


@pytest.mark.parametrize("tick", GOOD)
def test_good_tick_is_taken_by_code_and_schema(tick: dict[str, Any]) -> None:
    assert not faults("canonical_tick", tick)
    assert Feeder("anyone", NAME)(tick).played.bad == []


@pytest.mark.parametrize("tick", BAD)
def test_bad_tick_is_refused_by_code_and_schema(tick: Any) -> None:
    assert faults("canonical_tick", tick)
    feed = Feeder("anyone", NAME)(book([["5", "5"]], [], snapshot=True))
    before = without_doubts(feed.played.source, NAME)
    assert len(feed(tick).played.bad) == 1
    assert without_doubts(feed.played.source, NAME) == before
    channel = tick.get("channel") if isinstance(tick, dict) else None
    wanted = ["book", "trades"] if channel is None else [channel] if channel in ("book", "trades") else []
    assert doubts(feed.played.source, NAME) == wanted


def test_prices_may_be_zero_or_negative() -> None:
    feed = Feeder("anyone", NAME)(GOOD[8], GOOD[11], GOOD[12])
    assert [trade.price for trade in feed.folded.trades] == ["-37.63", "0"]
    assert feed.folded.quotes[0][0] == Quote("-0.5", "2", "0", "0")
    feed(made("quotes", {"bid_price": "0", "bid_size": "1", "ask_price": None, "ask_size": None}))
    assert feed.folded.quotes[-1][0] == Quote("0", "1", None, None)
    assert feed.book() == ({"0": "1", "-1.5": "2"}, {})
    feed(book([["-0.0", "3"]], [["-0.50", "1"], ["-3", "1"], ["10", "1"]]))
    assert feed.played.snapshot(NAME, "book").bids == [("0", "3"), ("-1.5", "2")]
    assert feed.played.snapshot(NAME, "book").asks == [("-3", "1"), ("-0.5", "1"), ("10", "1")]
    feed(book([["0", "0"]], []))
    assert feed.book()[0] == {"-1.5": "2"}


def test_conditions_and_exchange_of_trades_go_on_as_they_came() -> None:
    some = {**TRADE, "conditions": ["odd lot", "T"], "exchange": "XNAS"}
    others = [{**TRADE, "trade_id": "8", "conditions": []}, {**TRADE, "trade_id": "9", "exchange": "XNYS"}]
    feed = Feeder("anyone", NAME)(made("trades", [some, *others]))
    texts = [encode(trade).partition(TIME.encode())[2] for trade in feed.folded.trades]
    assert texts == [b'","conditions":["odd lot","T"],"exchange":"XNAS"}', b'"}', b'","exchange":"XNYS"}']
    assert feed.played.snapshot(NAME, "trades") == feed.folded.trades


def test_odd_entry_is_told_on_its_channel() -> None:
    feed = Feeder("anyone", NAME)(GOOD[0], book([["5", "5"]], [], snapshot=True))
    feed(book([["5", "x"]], []), made("trades", [{**TRADE, "price": "x"}]))
    assert [(state.state, state.reason, state.seq) for state in feed.folded.states] == [("stale", "gap", 2)]
    assert [reason.partition(":")[0] for _, reason in feed.played.bad] == ["entry of ABC"] * 2
    assert feed.folded.gaps == []
    feed(made("trades", [{**TRADE, "trade_id": "8"}]), book([["6", "6"]], [], snapshot=True))
    assert [(gap.reason, gap.lost, gap.seq) for gap in feed.folded.gaps] == [("venue", True, 0)]
    assert [state.state for state in feed.folded.states] == ["stale", "ok"]
    assert feed.played.source.now.counts.bad_entries == 2


@pytest.mark.parametrize(
    ("time", "unit"),
    [
        ("0", "seconds"),
        ("1795467600", "seconds"),
        ("1795467600131", "milliseconds"),
        ("1795467600131000", "microseconds"),
    ],
)
def test_time_of_another_unit_is_refused_by_its_name(time: str, unit: str) -> None:
    feed = Feeder("anyone", NAME)(made("quotes", QUOTE, ts_event=time), made("trades", [{**TRADE, "ts_event": time}]))
    assert [f"looks like {unit}," in reason for _, reason in feed.played.bad] == [True, True]
    assert feed.folded.quotes == feed.folded.trades == []


def test_what_is_too_long_says_so() -> None:
    feed = Feeder("anyone", NAME)(
        made("trades", [{**TRADE, "price": "1" * 21}]),
        made("trades", [{**TRADE, "size": "0." + "1" * 19}]),
        made("quotes", QUOTE, ts_event=str(2**63)),
        made("status", {"action": "halt", "reason": "x" * 1_000_000}),
    )
    assert [reason.partition(": ")[2].partition(", ")[2] for _, reason in feed.played.bad] == [
        "wanted at most 20 digits before the point, not 21",
        "wanted at most 18 digits after the point, not 19",
        "wanted nanoseconds since 1970 up to 9223372036854775807",
        "wanted at most 1000",
    ]


def test_what_is_said_of_the_whole_venue_is_bounded_too() -> None:
    feed = Feeder("anyone", "")(made("status", {"action": "halt", "reason": "x" * 1001}))
    assert "reason of 1001 characters" in feed.played.bad[0][1]
    assert list(feed.played.source) == []


def test_each_channel() -> None:
    feed = Feeder("anyone", NAME)(*GOOD[:3])
    assert feed.folded.trades[0] == Trade("67187.48", "0.00214", "buy", "7", TIME)
    assert feed.folded.quotes == [(Quote("1", "2", None, None), TIME)]
    feed(GOOD[5], GOOD[6])
    assert feed.played.snapshot(NAME, "status") == Status("halt", None)
    assert feed.played.snapshot(NAME, "instruments") == Instrument("x", NAME, None, "A", "B", "0.01", None, ["a"])


def test_a_change_before_any_snapshot_makes_the_book_stale_once() -> None:
    feed = Feeder("anyone", NAME)(*[book([["1", "1"]], [])] * 3)
    assert [(state.channel, state.state, state.reason, state.seq) for state in feed.folded.states] == [
        ("book", "stale", "gap", 0)
    ]
    assert feed.book() is None
    assert feed.played.source.counts.changes_lost == 3
    # who starts now finds it in the keyframe, though there is no snapshot
    assert feed.played.source.keyframe(NAME) == feed.folded.states
    feed(book([["2", "1"]], [], snapshot=True), book([["1", "1"]], []))
    assert [state.state for state in feed.folded.states] == ["stale", "ok"]
    assert feed.book() == ({"2": "1", "1": "1"}, {})
    assert feed.played.source.counts.changes_lost == 3


def test_book_needs_a_snapshot_and_is_replaced_by_one() -> None:
    feed = Feeder("anyone", NAME)(book([["1", "1"]], []))
    assert feed.book() is None
    feed(book([["1.0", "1"]], [["2", "0"]], snapshot=True), book([["1", "3.0"]], [["4", "1"]]))
    assert feed.book() == ({"1": "3"}, {"4": "1"})
    feed(book([["1", "3"]], [], snapshot=True))
    assert feed.book() == ({"1": "3"}, {})
    assert dict(feed.folded.bids) == {1: "3"}


def test_trade_sent_twice_is_known_by_its_id() -> None:
    feed = Feeder("anyone", NAME)(GOOD[0], GOOD[0], GOOD[1], GOOD[1])
    assert [trade.trade_id for trade in feed.folded.trades] == ["7", None, None]


def test_a_side_of_a_quote_that_is_left_out_stays_as_it_was() -> None:
    feed = Feeder("anyone", NAME)(made("quotes", {"ask_price": 2.50, "ask_size": 0}))
    feed(made("quotes", {"bid_price": "1", "bid_size": "3"}), made("quotes", {"ask_price": 3}))
    feed(made("quotes", {"bid_price": None}))
    assert [quote for quote, _ in feed.folded.quotes] == [
        Quote(None, None, "2.5", "0"),
        Quote("1", "3", "2.5", "0"),
        Quote("1", "3", "3", None),
        Quote(None, None, "3", None),
    ]


def test_a_field_of_a_definition_that_is_left_out_stays_as_it_was() -> None:
    feed = Feeder("anyone", NAME)(made("instruments", INSTRUMENT))
    feed(made("instruments", {"venue": "x", "venue_symbol": NAME, "base": None, "lot_size": 5}))
    told = feed.played.snapshot(NAME, "instruments")
    assert told == Instrument("x", NAME, None, None, "B", "0.01", "5", ["a"])


def test_a_tick_without_a_key_is_of_the_symbol_that_it_names_wherever_it_lies() -> None:
    source = Source(venue("anyone"), "anyone/3@a", Rules(), is_own=lambda name: False)
    value = encode(made("trades", [TRADE], symbol=NAME))
    assert list(source.apply(Tick(0, "", value, int(TIME), int(TIME)))) == []
    assert {message.symbol for message in source.take()} == {"ANYONE:ABC"}  # type: ignore[union-attr]


BEYOND = [
    b'{"channel":"trades","data":[{"price":1.0000000000000000001,"size":1}]}',
    b'{"channel":"trades","data":[{"price":1,"size":1,"trade_id":7.0}]}',
    b'{"channel":"trades","data":[{"price":1,"size":1,"ts_event":1.795467600131e18}]}',
    made("trades", [{**TRADE, "size": "0.0"}]),
    made("quotes", {**QUOTE, "ask_size": "1"}),
]


@pytest.mark.parametrize("tick", BEYOND)
def test_rules_beyond_the_schema(tick: bytes | dict[str, Any]) -> None:
    assert len(Feeder("anyone", NAME)(tick).played.bad) == 1


def test_keys_and_wide() -> None:
    assert canonical.keys(encode(made("quotes", QUOTE, symbol=NAME))) == [NAME]
    assert canonical.keys(encode(GOOD[5])) == []
    assert canonical.venue_status(encode(GOOD[5])) == ("halt", None)
    assert list(canonical.entries(Tick(0, "", encode({**GOOD[5], "symbol": NAME}), 0, 0))) == [NAME]
    for read, tick in ((canonical.keys, GOOD[0]), (canonical.venue_status, GOOD[0]), (canonical.keys, [])):
        with pytest.raises(BadTick):
            read(encode(tick))
    feed = Feeder("anyone", NAME)(made("quotes", QUOTE, symbol="OTHER"))
    assert "OTHER" in feed.played.bad[0][1]


NAMES = st.sampled_from([*TRADE, *QUOTE, "bids", "asks"])
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.sampled_from(["1", "buy"]),
)
JSON = st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner), max_leaves=8)


@given(st.sampled_from([tick["channel"] for tick in GOOD]), JSON)
def test_what_the_code_takes_the_schema_takes(channel: str, data: Any) -> None:
    tick = made(channel, data)
    if not Feeder("anyone", NAME)(tick).played.bad:
        assert not faults("canonical_tick", tick)
