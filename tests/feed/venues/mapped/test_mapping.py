"""A mapping at work: what canonical ticks come of a record, and what is odd in it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.errors import BadTick, ConfigError
from feed.venues.mapped.mapping import Mapped, mapping

TIME = "1795467600131000000"
DESK = """
format = "json"
symbol = { field = "sym" }

[[records]]
kind = "trades"
when = { type = ["T", "X"] }
each = "fills"
ts_event = { field = "$.at", unit = "ms" }
[records.fields]
price = { field = "px", scale = 2 }
size = "qty"
side = { field = "sd", words = { "1" = "buy", "2" = "sell" }, none = ["-"] }
trade_id = "id"
exchange = { constant = "XDSK" }
conditions = "conds"

[[records]]
kind = "quotes"
has = ["bid"]
ts_event = "ts"
[records.fields]
bid_price = { field = "bid", none = [0] }
bid_size = { field = "bidsz", default = 1 }
ask_price = "ask"
ask_size = "asksz"

[[records]]
kind = "snapshot"
when = { type = "S" }
bids = { each = "book.b", price = "[0]", size = "[1]" }
asks = { each = "book.a", price = "[0]", size = "[1]" }

[[records]]
kind = "changes"
when = { type = "C" }
bids = { each = "b", price = "p", size = "s" }
asks = { each = "a", price = "p", size = "s" }

[[records]]
kind = "changes"
when = { type = "L" }
each = "levels"
[records.fields]
side = "side"
price = "p"
size = { field = "s", default = 0 }

[[records]]
kind = "status"
when = { type = "H" }
fields = { action = { field = "state", words = { open = "trading", shut = "close" } }, reason = "why" }

[[records]]
kind = "instruments"
when = { defines = true }
fields = { venue = { constant = "desk" }, kind = "class", tick_size = { field = "tick", scale = 4 }, aliases = "alias" }
"""


def made(text: str = DESK) -> Mapped:
    return mapping(text, {})


def told(record: Any, text: str = DESK, key: str = "") -> dict[str, tuple[list[Any], list[tuple[str, str]]]]:
    value = record if isinstance(record, bytes) else json.dumps(record).encode()
    return {
        symbol: ([msgspec.json.decode(tick) for tick in one.ticks], [(kind, str(error)) for kind, error in one.odd])
        for symbol, one in made(text).told(value, key).items()
    }


FILLS = DESK.replace('symbol = { field = "sym" }', 'symbol = { field = "$.sym" }')


def test_trades_of_a_list() -> None:
    fills = [
        {"px": 6718748, "qty": 1.50, "sd": 1, "id": 7, "conds": "@"},
        {"px": "100", "qty": "2", "sd": "-", "id": None},
        {"px": 5, "qty": 1, "sd": 9, "id": 8},
    ]
    found = told({"type": "X", "sym": "A", "at": 1795467600131, "fills": fills}, FILLS)
    first = {"price": "67187.48", "size": "1.5", "side": "buy", "trade_id": "7", "conditions": ["@"]}
    second = {"price": "1", "size": "2", "side": None, "trade_id": None}
    more = {"exchange": "XDSK", "ts_event": TIME}
    wanted = {"channel": "trades", "ts_event": TIME, "data": [{**first, **more}, {**second, **more}]}
    assert found == {"A": ([wanted], [("trades", "side 9, wanted one of 1, 2")])}


def test_a_quote_and_what_it_leaves_out() -> None:
    [tick] = told({"sym": "A", "bid": 0, "bidsz": 0, "ask": 1.5, "asksz": 2, "ts": TIME})["A"][0]
    assert tick == {
        "channel": "quotes",
        "ts_event": TIME,
        "data": {"bid_price": None, "ask_price": "1.5", "ask_size": "2"},
    }
    [tick] = told({"sym": "A", "bid": 3})["A"][0]
    assert tick["data"] == {"bid_price": "3", "bid_size": "1"}


def test_books() -> None:
    [tick] = told({"type": "S", "sym": "A", "book": {"b": [[1, 2]], "a": []}})["A"][0]
    assert tick == {
        "channel": "book",
        "ts_event": None,
        "data": {"bids": [["1", "2"]], "asks": []},
        "snapshot": True,
    }
    [tick] = told({"type": "C", "sym": "A", "b": [{"p": 1, "s": 0}]})["A"][0]
    assert tick["data"] == {"bids": [["1", "0"]]}
    assert tick["snapshot"] is False
    levels = [{"sym": "A", "side": "bid", "p": 1, "s": 2}, {"sym": "B", "side": "ask", "p": 3}]
    found = told({"type": "L", "levels": levels})
    assert [found[symbol][0][0]["data"] for symbol in "AB"] == [
        {"bids": [["1", "2"]], "asks": []},
        {"bids": [], "asks": [["3", "0"]]},
    ]


FLAT = """
format = "csv"
symbol = { constant = "A" }
csv = { columns = ["side", "price", "size"] }
[[records]]
kind = "snapshot"
fields = { side = "side", price = "price", size = "size" }
"""


def test_a_snapshot_line_by_line_is_one() -> None:
    [tick] = told(b"B,1,2\nS,3,4\nB,0.5,1\n", FLAT)["A"][0]
    assert tick["data"] == {"bids": [["1", "2"], ["0.5", "1"]], "asks": [["3", "4"]]}
    assert told(b"B,1,2\nS,3\n".replace(b"S,3\n", b"S,3,\n"), FLAT)["A"] == ([], [("book", "level without size")])


def test_an_empty_list_of_levels_is_an_empty_book() -> None:
    text = FLAT.replace('"csv"', '"json"').replace("[[records]]", '[[records]]\neach = "levels"')
    [tick] = told({"levels": []}, text)["A"][0]
    assert (tick["data"], tick["snapshot"]) == ({"bids": [], "asks": []}, True)


def test_status_and_definition() -> None:
    assert told({"type": "H", "sym": "A", "state": "shut", "why": "lunch"})["A"][0] == [
        {"channel": "status", "ts_event": None, "data": {"action": "close", "reason": "lunch"}}
    ]
    [tick] = told({"defines": True, "sym": "A", "class": "spot", "tick": 100, "alias": ["a"]})["A"][0]
    data = {"venue": "desk", "kind": "spot", "tick_size": "0.01", "aliases": ["a"], "venue_symbol": "A"}
    assert tick["data"] == data


def test_a_record_may_be_of_two_kinds_and_the_last_word_of_each_side_counts() -> None:
    found = told({"type": "H", "state": "open", "bid": 1, "sym": "A"})
    assert [tick["channel"] for tick in found["A"][0]] == ["quotes", "status"]
    lines = """
    format = "csv"
    csv = { columns = ["bid", "bidsz", "ask"] }
    [[records]]
    kind = "quotes"
    fields = { bid_price = "bid", bid_size = "bidsz", ask_price = "ask" }
    """
    [tick] = told(b"1,2,3\n,,4\n", lines, key="A")["A"][0]
    assert tick["data"] == {"ask_price": "4", "bid_price": "1", "bid_size": "2"}


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ({"type": "S", "sym": "A"}, "snapshot without bids"),
        ({"type": "C", "sym": "A"}, "without bids and asks"),
        ({"type": "C", "sym": "A", "b": 5}, "b is 5, wanted a list"),
        ({"type": "C", "sym": "A", "b": [{"p": 1}]}, "level of bids without price or size"),
        ({"type": "L", "sym": "A", "levels": [{"sym": "A", "side": "x", "p": 1}]}, "wanted bid or ask"),
        ({"type": "C", "sym": "A", "b": [{"p": True, "s": 1}]}, "price true, wanted a number"),
    ],
)
def test_an_odd_entry_is_told_of_its_channel(record: Any, found: str) -> None:
    ticks, [(channel, error)] = told(record)["A"]
    assert (ticks, channel) == ([], "book")
    assert found in error


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (b"{", "not JSON"),
        ({"type": "?", "sym": "A"}, "of no kind in the mapping: type is '?'"),
        ({"sym": "A"}, "type is nothing"),
        ({"type": "H"}, "without a symbol"),
        ({"type": "H", "sym": ""}, "without a symbol"),
        ({"type": "H", "sym": [1]}, "symbol list"),
        ({"type": "X", "sym": "A", "fills": {}}, "fills is object, wanted a list"),
        ({"type": "X", "sym": "A"}, "fills is nothing, wanted a list"),
    ],
)
def test_a_record_that_cannot_be_read_is_bad_as_a_whole(record: Any, found: str) -> None:
    with pytest.raises(BadTick) as error:
        told(record)
    assert found in str(error.value)


def test_others_may_be_passed_over() -> None:
    assert told({"type": "?"}, 'others = "ignore"\n' + DESK) == {}


def test_the_key_may_be_the_symbol() -> None:
    text = DESK.replace('symbol = { field = "sym" }', "")
    assert made(text).by_key
    assert not made().by_key
    assert list(told({"type": "H", "state": "open"}, text, key="K")) == ["K"]
    assert made().channels == ("trades", "quotes", "book", "status", "instruments")


def test_a_header_may_stand_for_the_key() -> None:
    text = DESK.replace('symbol = { field = "sym" }', 'symbol = { header = "instrument" }')
    assert (made(text).by_key, made(text).key_header) == (True, "instrument")
    assert made().key_header == ""
    assert made(text).version != made(text.replace('"instrument"', '"symbol"')).version
    assert list(told({"type": "H", "state": "open"}, text, key="K")) == ["K"]
    with pytest.raises(ConfigError, match=r"fields\.price: found a header"):
        made(FLAT.replace('price = "price"', 'price = { header = "x" }'))
    with pytest.raises(ConfigError, match="wanted it so of all records"):
        made(text + '\n[[records]]\nkind = "status"\nsymbol = "s"\nfields = { action = "a" }')


def test_the_version_is_of_what_is_said_and_of_the_schemas() -> None:
    assert made().version == made("# words\n" + DESK).version
    assert made().version != made(DESK.replace("scale = 2", "scale = 3")).version
    avro = 'format = "avro"\n[avro]\nschema = "a"\n[[records]]\nkind="status"\nfields={action="a"}'
    schemas = [b'{"type":"record","name":"a","fields":[]}', b'{"type":"record","name":"b","fields":[]}']
    assert mapping(avro, {"a": schemas[0]}).version != mapping(avro, {"a": schemas[1]}).version


@pytest.mark.parametrize("spec", ['{ field = "a", key = true }', "{ scale = 2 }"])
def test_a_value_comes_from_one_place(spec: str) -> None:
    text = f'format = "json"\n[[records]]\nkind = "trades"\nfields = {{ price = {spec}, size = "s" }}'
    with pytest.raises(ConfigError, match=r"records\[0\]\.fields\.price: found [02] of field, key and constant"):
        made(text)


VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["T", "S", "C", "L", "A"])
NAMES = st.sampled_from(
    ["type", "sym", "fills", "bid", "book", "b", "a", "p", "s", "levels", "side", "px", "qty", "at"]
)
JSON = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner), max_leaves=12)


@given(JSON)
def test_any_record_gives_ticks_or_a_bad_tick_and_always_the_same(record: Any) -> None:
    try:
        assert told(record) == told(record)
    except BadTick:
        return
