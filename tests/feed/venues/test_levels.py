"""The levels of a book: changes, differences, the best, and the order of all."""

from __future__ import annotations

import msgspec

from feed.venues.levels import UNREAD_BYTES_MAX, SymbolLevels
from feed.wire.model import Book, Quote


def levels(bids: dict[str, str], asks: dict[str, str]) -> SymbolLevels:
    made = SymbolLevels()
    made.change(list(bids.items()), list(asks.items()))
    return made


def test_all_levels_are_best_first_and_deleted_ones_are_gone() -> None:
    book = levels({"9": "1", "10": "2", "8": "0"}, {"12": "1", "11.5": "3"})
    book.change([("9", "0")], [])
    assert book.all() == Book([("10", "2")], [("11.5", "3"), ("12", "1")])


def test_prices_longer_than_a_float_holds_are_in_order() -> None:
    long = ["1.00000000000000001", "1.00000000000000003", "1.00000000000000002"]
    assert [price for price, _ in levels({}, dict.fromkeys(long, "1")).all().asks] == sorted(long)


def test_changes_as_json_are_those_as_levels() -> None:
    book = levels({"1": "1"}, {})
    book.change_json(b'{"bids":[["2","5"],["1","0"]],"asks":[["3","1"]]}')
    assert book.differences({"2": "5"}, {}) == ([], [("3", "0")])
    book.change_json(b'{"bids":[["2","6"]],"asks":[]}')
    book.change([("2", "7")], [])
    assert book.all() == Book([("2", "7")], [("3", "1")])


def test_json_is_read_at_the_latest_when_there_is_much_of_it() -> None:
    book = SymbolLevels()
    text = msgspec.json.encode(Book([("1" * 18, "1")] * 2000, []))
    assert len(text) < UNREAD_BYTES_MAX
    book.change_json(text)
    assert book._unread
    book.change_json(text)
    assert not book._unread
    assert book.all().bids == [("1" * 18, "1")]


def test_a_difference_is_deletes_in_order_then_what_is_new_or_changed() -> None:
    book = levels({"10": "1", "9": "1", "8": "0", "7": "2"}, {})
    assert book.differences({"7": "2", "6": "1"}, {}) == ([("9", "0"), ("10", "0"), ("6", "1")], [])


def test_the_best_level_of_each_side() -> None:
    book = levels({"10": "1"}, {"12": "2"})
    first = book.best(None, [("10", "1")], [("12", "2")])
    assert first == Quote("10", "1", "12", "2")
    change = ([("11", "3"), ("9", "1")], [("13", "1")])
    book.change(*change)
    second = book.best(first, *change)
    assert second == Quote("11", "3", "12", "2")
    change = ([("11", "0")], [("12", "0"), ("13", "0")])
    book.change(*change)
    assert book.best(second, *change) == Quote("10", "1", None, None)
