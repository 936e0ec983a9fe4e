"""Proposed mappings: what is proposed of usual records can be used as it stands, and says what it could not know."""

from __future__ import annotations

import json
from typing import Any

from feed.venues.mapped.mapping import mapping
from feed.venues.mapped.proposal import proposal

HEAD = 'format = "json"'


def told(records: list[Any]) -> tuple[str, list[Any]]:
    """What is proposed, and what it makes of the very records."""
    text = proposal(records, HEAD)
    mapped = mapping(text, {})
    ticks = [
        (symbol, json.loads(tick))
        for record in records
        for symbol, one in mapped.told(json.dumps(record).encode(), "KEY").items()
        for tick in one.ticks
    ]
    return text, ticks


def test_trades_and_quotes_told_by_their_type() -> None:
    trade = {"type": "trade", "sym": "A", "px": 5, "qty": "1.5", "side": "buyer", "ts": 1795467600131, "tid": 7}
    quote = {"type": "quote", "sym": "A", "bid": "1", "bidsz": "2", "ask": "3", "ts": 1795467600131}
    text, ticks = told([trade, quote])
    data = {"price": "5", "size": "1.5", "side": "buy", "trade_id": "7", "ts_event": "1795467600131000000"}
    assert ticks[0] == ("A", {"channel": "trades", "ts_event": "1795467600131000000", "data": [data]})
    assert ticks[1][1]["data"] == {"bid_price": "1", "bid_size": "2", "ask_price": "3"}
    assert "where they count 1e-9" in text
    assert "each buy or sell" in text


def test_nested_books_whole_and_changed() -> None:
    book = {"m": {"instrument": "A", "event": "full"}, "book": {"bids": [{"p": 1, "q": 2}], "asks": [{"p": 3, "q": 4}]}}
    change = {"m": {"instrument": "A", "event": "delta"}, "book": {"bids": [["1", "0"]], "asks": [["3", "1"]]}}
    _, ticks = told([book, change])
    assert [(tick["snapshot"], tick["data"]["bids"]) for _, tick in ticks] == [
        (True, [["1", "2"]]),
        (False, [["1", "0"]]),
    ]


def test_lists_of_entries() -> None:
    levels = [{"side": "bid", "px": 1, "qty": 2}, {"side": "ask", "px": 3, "qty": 0}]
    _, [(_, tick)] = told([{"code": "A", "type": "delta", "sent": 1795467600131, "levels": levels}])
    assert (tick["snapshot"], tick["ts_event"]) == (False, "1795467600131000000")
    assert tick["data"] == {"bids": [["1", "2"]], "asks": [["3", "0"]]}
    _, [(_, tick)] = told([{"code": "A", "fills": [{"price": 1, "size": 2, "id": 3}]}])
    assert tick["data"] == [{"price": "1", "size": "2", "trade_id": "3", "ts_event": None}]


def test_without_a_symbol_the_key_is_one_and_sides_are_left_as_they_are() -> None:
    text, [(symbol, tick)] = told([{"price": "1", "size": "2", "side": "B", "time": "2026-11-23T21:00:00.131Z"}])
    assert (symbol, tick["data"][0]["side"]) == ("KEY", "buy")
    assert "the record's key is taken" in text
    assert 'side = "side"  # the taker\'s side' in text


def test_what_a_person_has_to_say_is_marked() -> None:
    text = proposal([{"kind": "state", "symbol": "A", "state": "OPEN", "reason": "x"}], HEAD)
    assert 'words = { "OPEN" = "?" }' in text
    text = proposal([{"type": "x", "a.b": {"odd name": 1}, "1": 2, "list": [1], "bids": [], "asks": []}], HEAD)
    assert "# of no kind that is known: x" in text
    assert '["a.b"]["odd name"]' in text
    deep: Any = {}
    for _ in range(20):
        deep = {"deeper": deep}
    assert "deeper" in proposal([deep], HEAD)
    assert "format" in proposal([], HEAD)


def test_lines_without_names() -> None:
    assert 'when = { "[0]" = "T" }' in proposal([["T", "1", "2"]], 'format = "csv"')
