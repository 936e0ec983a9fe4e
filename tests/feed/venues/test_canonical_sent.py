"""Our own tick's data as people send it: it means the same as the form of the protocol, where both can say it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.errors import BadTick
from feed.venues import canonical_sent
from feed.wire.frames import UNREADABLE
from feed.wire.model import Book, Instrument, Quote, Status, Trade

encode = msgspec.json.encode
KNOWN = Quote("1", "2", "3", None)
DEFINED = Instrument("x", "A", "spot", "a", "b", "0.1", None, ["n"])


def raw(data: Any) -> msgspec.Raw:
    return msgspec.Raw(data if isinstance(data, bytes) else encode(data))


def test_trades() -> None:
    told = canonical_sent.trades(raw(b'[{"price":1.50,"size":"2","side":"B","trade_id":7},{"price":"1","size":1e1}]'))
    assert told == [("1.50", "2", "buy", "7", None, None, None), ("1", "10", None, None, None, None, None)]


def test_a_side_of_a_quote_that_is_left_out_stays() -> None:
    assert canonical_sent.quote(raw({"bid_price": 5}), KNOWN) == Quote("5", None, "3", None)
    assert canonical_sent.quote(raw({"ask_price": None}), KNOWN) == Quote("1", "2", None, None)
    assert canonical_sent.quote(raw({"ask_price": 0, "ask_size": 0}), None) == Quote(None, None, "0", "0")


def test_a_side_of_a_change_may_be_left_out() -> None:
    assert canonical_sent.book(raw({"asks": [[1.5, "0"]]}), snapshot=False) == ([], [("1.5", "0")])
    assert canonical_sent.book(raw({"bids": [], "asks": [[1, 2]]}), snapshot=True) == ([], [("1", "2")])


def test_status_and_definition() -> None:
    assert canonical_sent.status(raw({"action": "halt"})) == Status("halt", None)
    named = {"venue": "x", "venue_symbol": "A"}
    assert canonical_sent.instrument(raw(named), DEFINED) == DEFINED
    assert canonical_sent.instrument(raw(named), None) == Instrument("x", "A", None, None, None, None, None, [])
    told = canonical_sent.instrument(
        raw({**named, "tick_size": None, "lot_size": 5, "kind": None, "aliases": []}), DEFINED
    )
    assert told == Instrument("x", "A", None, "a", "b", None, "5", [])


@pytest.mark.parametrize(
    ("read", "data", "found"),
    [
        (canonical_sent.trades, [{"price": 1}], "size"),
        (canonical_sent.trades, {}, "Expected `array`"),
        (canonical_sent.trades, [{"price": True, "size": 1}], "price true"),
        (lambda data: canonical_sent.quote(data, None), {}, "without bid_price and ask_price"),
        (
            lambda data: canonical_sent.quote(data, None),
            {"bid_price": 1, "ask_size": 2},
            "ask_size 2 without ask_price",
        ),
        (lambda data: canonical_sent.book(data, snapshot=False), {}, "without bids and asks"),
        (lambda data: canonical_sent.book(data, snapshot=False), {"bids": None}, "Expected `array`"),
        (lambda data: canonical_sent.book(data, snapshot=False), {"bids": [[1, [2]]]}, "size list"),
        (lambda data: canonical_sent.book(data, snapshot=True), {"bids": []}, "one side"),
        (canonical_sent.status, {"action": "open"}, "Invalid enum value"),
        (lambda data: canonical_sent.instrument(data, None), {"venue": "x"}, "venue_symbol"),
    ],
)
def test_what_is_odd_is_named(read: Any, data: Any, found: str) -> None:
    with pytest.raises((BadTick, *UNREADABLE)) as error:
        read(raw(data))
    assert found in str(error.value)


NUMBERS = st.from_regex(r"(0|[1-9][0-9]{0,5})(\.[0-9]{1,4})?", fullmatch=True)
MAYBE = st.none() | NUMBERS
TRADES = st.lists(
    st.builds(
        Trade, NUMBERS, NUMBERS, st.sampled_from(["buy", "sell", None]), st.none() | st.text(max_size=3), st.none()
    )
)


@given(TRADES)
def test_trades_in_the_form_of_the_protocol_mean_the_same(trades: list[Trade]) -> None:
    told = canonical_sent.trades(raw(trades))
    assert [each[:5] for each in told] == [
        (trade.price, trade.size, trade.side, trade.trade_id, trade.ts_event) for trade in trades
    ]


@given(st.builds(Quote, NUMBERS, MAYBE, MAYBE, st.none()), st.sampled_from([None, KNOWN]))
def test_a_quote_in_the_form_of_the_protocol_means_the_same(quote: Quote, known: Quote | None) -> None:
    assert canonical_sent.quote(raw(quote), known) == quote


LEVELS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4)


@given(st.builds(Book, LEVELS, LEVELS), st.booleans())
def test_a_book_in_the_form_of_the_protocol_means_the_same(book: Book, snapshot: bool) -> None:
    assert canonical_sent.book(raw(book), snapshot=snapshot) == (book.bids, book.asks)
